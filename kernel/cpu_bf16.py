"""What is done in another way where a CPU computes in bfloat16, which torch does through oneDNN."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .batches import Padding
    from .pretrained import Pretrained


def attention(device: torch.device, dtype: torch.dtype) -> str | None:
    """The implementation of attention: the fused one's backward pass takes a third of a small model's step there."""
    return "eager" if _is_so(device, dtype) else None


def padding(pretrained: Pretrained, device: torch.device, dtype: torch.dtype) -> Padding:
    """The padding: memory grows with every width there, and with a fourth of the widths a rank took a third less."""
    if not _is_so(device, dtype):
        return pretrained.padding
    return replace(pretrained.padding, multiple=4, longest=pretrained.positions)


def _is_so(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and str(dtype) == "torch.bfloat16"
