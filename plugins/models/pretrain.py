"""Model `pretrain`: the tokens behind masks, over any Hugging Face architecture with a masked language model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...kernel.contracts import Batch, Field, Labels, Loss, Model, Problem
from ...kernel.errors import SceneError
from ...kernel.registry import model
from .seq2seq import texts_of_rows

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained


@model("pretrain")
@dataclass
class Pretrain(Model):
    """Masked language model; features by `mlm_tokenize`.

    The loss is the sum of the cross-entropy over the hidden tokens. Its model folder is the `model` of a scene that
    goes on from there, such as a classifier. In prediction the text holds mask tokens, and the answer is the text with
    the likeliest token at each, all masks of a text being filled at once.
    """

    needs_to_train: ClassVar[tuple[str, ...]] = ("masked",)

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None:
            raise SceneError("pretrain learns the tokens that mlm_tokenize hides; leave the labels out")
        return "masked_text"

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        if pretrained.config.is_encoder_decoder:
            kind = pretrained.config.model_type
            raise SceneError(f"pretrain needs an encoder; '{kind}' has a decoder too: use seq2seq with s2s_denoising")
        self._tokenizer = pretrained.tokenizer
        if self._tokenizer.mask_token_id is None:
            raise SceneError("pretrain needs a tokenizer with a mask token; this model's has none")
        module: Any = pretrained.load("AutoModelForMaskedLM")
        self._accepts = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        return module  # type: ignore[no-any-return]

    def count(self, batch: Batch) -> int:
        return int((batch["masked"] != -100).sum())

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch.nn.functional as F

        hidden = batch["masked"] != -100
        logits, wanted = self._logits(module, batch)[hidden].float(), batch["masked"][hidden]
        losses = F.cross_entropy(logits, wanted, reduction="none")
        outputs = {} if module.training else _by_row(hidden, losses, logits.argmax(-1) == wanted)
        return Loss(losses.sum(), len(wanted), outputs)

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        ids = batch["input_ids"]
        masks = ids == self._tokenizer.mask_token_id
        filled = ids.masked_scatter(masks, self._logits(module, batch)[masks].argmax(-1).to(ids.dtype))
        return {"texts": texts_of_rows(self._tokenizer, filled, len(ids))}

    def _logits(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """[rows, tokens, vocabulary]."""
        logits: torch.Tensor = module(**{name: batch[name] for name in batch if name in self._accepts}).logits
        return logits


def _by_row(hidden: torch.Tensor, losses: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
    """[rows] for the metrics: the sum of the losses, the tokens that were found, and those that were hidden."""
    row, zeros = hidden.nonzero()[:, 0], losses.new_zeros(len(hidden))
    return {
        "masked_loss": zeros.index_add(0, row, losses.detach()),
        "masked_right": zeros.index_add(0, row, right.float()),
        "masked_tokens": hidden.sum(1),
    }
