"""Trainer `my_trainer`: the common loop with a loss of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from deepgen.kernel.contracts import Batch, Loss
from deepgen.kernel.options import Range
from deepgen.kernel.registry import trainer
from deepgen.plugins.trainers.common import Common

if TYPE_CHECKING:
    import torch

    from deepgen.kernel.training import Run


@trainer("my_trainer")
@dataclass
class MyTrainer(Common):
    """Multiplies the loss of the task; put what you want to be learned in its place.

    `step` (one optimizer step) and `evaluate` (the scores) can be overridden too. A loss is a sum over rows or tokens
    and their count, so that the number of ranks changes nothing.
    """

    loss_factor: Annotated[float, Range(0)] = 1.0
    """What the loss is multiplied with."""

    def loss(self, run: Run, module: torch.nn.Module, batch: Batch) -> Loss:
        loss = super().loss(run, module, batch)
        return Loss(loss.total * self.loss_factor, loss.count, loss.outputs)
