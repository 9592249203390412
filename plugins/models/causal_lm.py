"""Model `causal_lm`: a text from a text, over any Hugging Face decoder-only architecture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from ...kernel.contracts import Batch, Field, Labels, Loss, Problem
from ...kernel.errors import SceneError
from ...kernel.options import Range
from ...kernel.registry import model
from .seq2seq import LONGEST, Generation, texts_of_rows

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained


@model("causal_lm")
@dataclass
class CausalLM(Generation):
    """Text generation by a decoder alone, which reads the source as the beginning of the text that it goes on with.

    The loss is the sum of the cross-entropy over the tokens of the target and its end token; source and separator are
    read and not learned. A generated text is what follows the source; it never contains it. Rows are padded on the left
    to generate, whatever the tokenizer's own side, so that a row's text does not depend on the rows beside it.
    """

    needs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    label_smoothing_factor: Annotated[float, Range(0, 1)] = 0.0
    """Share of the target that is spread evenly over the vocabulary."""

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape, labels.side) != ("int64", "ragged", "tokenizer"):
            raise SceneError(
                "causal_lm learns labels that stand beside the tokens they are; give source and target as the columns "
                "of causal_tokenize"
            )
        return "text"

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        config = pretrained.config
        if config.is_encoder_decoder:
            raise SceneError(f"causal_lm needs a decoder alone; '{config.model_type}' has an encoder too: use seq2seq")
        if _reads_both_ways(config):
            raise SceneError(
                f"causal_lm needs a model that reads from left to right; '{config.model_type}' reads both ways unless "
                "its config says is_decoder: true"
            )
        self._tokenizer = pretrained.tokenizer
        module: Any = pretrained.load("AutoModelForCausalLM")
        self._positions = pretrained.positions
        if self._positions is not None and (self.max_new_tokens or 0) >= self._positions:
            raise SceneError(
                f"max_new_tokens = {self.max_new_tokens}, but '{config.model_type}' takes {self._positions} tokens, "
                "source and generated text together"
            )
        self._prepare_generation(module.generation_config)
        self._accepts = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        return module  # type: ignore[no-any-return]

    def _prepare_generation(self, generation: Any) -> None:
        """The checkpoint's settings with the user's over them, and limits that do not count the source."""
        tokenizer = self._tokenizer
        # a total would make the length of a text depend on the length of the longest source in its batch
        generation.max_length = generation.min_length = None
        if generation.max_new_tokens is None and self._positions is not None:
            # causal_tokenize leaves a half of what the model takes to the target
            generation.max_new_tokens = min(LONGEST, self._positions - self._positions // 2)
        self.set_generation(generation)
        generation.pad_token_id = tokenizer.pad_token_id
        ends = generation.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
            ends.append(tokenizer.eos_token_id)  # the end that the targets are given
        generation.eos_token_id = ends[0] if len(ends) == 1 else ends or None

    def count(self, batch: Batch) -> int:
        return int((batch["labels"][:, 1:] != -100).sum())

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch.nn.functional as F

        inputs = {name: value for name, value in batch.items() if name in self._accepts}
        if "position_ids" in self._accepts:  # where the tokenizer pads on the left, a row does not begin at 0
            inputs["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits = module(**inputs, use_cache=False).logits
        following = batch["labels"][:, 1:]
        real = following != -100
        total = F.cross_entropy(
            logits[:, :-1][real].float(),
            following[real],
            reduction="sum",
            label_smoothing=self.label_smoothing_factor,
        )
        return Loss(total, self.count(batch))

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        owner: Any = module
        settings = owner.generation_config
        ids, mask = _sources(batch, settings.pad_token_id)
        width = ids.shape[1]
        if self._positions is not None and width + settings.max_new_tokens > self._positions:
            raise SceneError(
                f"max_new_tokens = {settings.max_new_tokens} and a source of {width} tokens are more than the model "
                f"takes: {self._positions} tokens together; lower max_new_tokens or source_max_length"
            )
        if settings.repetition_penalty not in (None, 1.0):
            # padding counts as used: a token of the row itself is used anyway, and the end token may pad
            ids = ids.where(mask.bool(), ids.gather(1, mask.argmax(1, keepdim=True)))
        made = self.generated(module, {"input_ids": ids, "attention_mask": mask})
        return {"texts": texts_of_rows(self._tokenizer, made[:, width:], len(ids))}


def _sources(batch: Batch, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, width] token ids and mask of the sources alone, padded on the left."""
    ids = batch["input_ids"]
    real = batch["attention_mask"].bool()
    if "labels" in batch:
        real = real & (batch["labels"] == -100)
    lengths = real.sum(1)
    width = int(lengths.max())
    rows, columns = real.nonzero(as_tuple=True)
    places = (real.cumsum(1) - 1)[rows, columns] + (width - lengths)[rows]
    moved = ids.new_full((len(ids), width), pad)
    moved[rows, places] = ids[rows, columns]
    mask = real.new_zeros(moved.shape, dtype=batch["attention_mask"].dtype)
    mask[rows, places] = 1
    return moved, mask


def _reads_both_ways(config: Any) -> bool:
    """Whether the architecture is one of those, as BERT, whose causal head works on a two-way encoder by default."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and getattr(config, "is_decoder", None) is False
