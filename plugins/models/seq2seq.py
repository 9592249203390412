"""Model `seq2seq`: a text from a text, over any Hugging Face encoder-decoder architecture."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ...kernel.contracts import Batch, Field, Labels, Loss, Model, Problem
from ...kernel.errors import SceneError
from ...kernel.options import Range
from ...kernel.registry import model

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained
    from ...kernel.scene import Scene, Split

LONGEST = 128
"""New tokens, where neither the scene nor the checkpoint sets a limit; Transformers would stop at 20."""
SAMPLING = ("temperature", "top_k", "top_p")
BEAM_SEARCH = ("length_penalty", "early_stopping")


@dataclass
class Generation(Model):
    """The generation settings; one that is not set stays as the checkpoint has it."""

    max_new_tokens: Annotated[int | None, Range(1)] = None
    """Longest generated text in tokens; where the checkpoint has no limit either, 128."""
    min_new_tokens: Annotated[int | None, Range(0)] = None
    """Shortest generated text in tokens."""
    num_beams: Annotated[int | None, Range(1)] = None
    """Beams of the search; 1 is greedy search, or plain sampling with do_sample."""
    num_return_sequences: Annotated[int | None, Range(1)] = None
    """Texts to return for each row, best first."""
    length_penalty: float | None = None
    """Exponent of the length in the score of a beam; above 0 favours long texts."""
    early_stopping: Literal["never"] | bool | None = None
    """End a beam search when as many texts are complete as there are beams."""
    no_repeat_ngram_size: Annotated[int | None, Range(0)] = None
    """No run of so many tokens may come twice; 0 allows all."""
    repetition_penalty: float | None = None
    """Above 1 makes tokens that were used before less likely."""
    do_sample: bool | None = None
    """Draw tokens at random instead of taking the likeliest."""
    temperature: Annotated[float | None, Range(0)] = None
    """Sampling: below 1 sharpens the distribution, above 1 flattens it."""
    top_k: Annotated[int | None, Range(0)] = None
    """Sampling: only the so many likeliest tokens."""
    top_p: Annotated[float | None, Range(0, 1)] = None
    """Sampling: only the likeliest tokens that together have this probability."""

    def generation_settings(self) -> Mapping[str, Any]:
        """What the user set, by the names that Transformers has for it."""
        names = [field.name for field in dataclasses.fields(Generation)]
        return {name: value for name in names if (value := vars(self)[name]) is not None}

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        returned, beams = self.num_return_sequences or 1, self.num_beams
        if beams is not None and returned > beams and not self.do_sample:
            raise SceneError(
                f"num_return_sequences = {returned} needs as many beams, and num_beams is {beams}; or set do_sample"
            )
        given = self.generation_settings()
        notes = [f"{name} has no effect, as do_sample is off" for name in SAMPLING if name in given]
        notes = notes if self.do_sample is False else []
        return notes + [f"{name} has no effect with one beam" for name in BEAM_SEARCH if name in given and beams == 1]

    def set_generation(self, generation: Any) -> None:
        """Puts what the user set over the checkpoint's own settings, and takes out what has no effect then.

        A folder with settings that have no effect could not be saved: Transformers refuses to.
        """
        for name, value in self.generation_settings().items():
            setattr(generation, name, value)
        if generation.max_new_tokens is None and generation.max_length is None:
            generation.max_new_tokens = LONGEST
        idle: tuple[str, ...] = () if generation.do_sample else SAMPLING
        if (generation.num_beams or 1) == 1:
            idle += BEAM_SEARCH
        for name in idle:
            setattr(generation, name, None)
        try:
            generation.validate(strict=True)
        except ValueError as error:
            settings = ", ".join(self.generation_settings()) or "the checkpoint's generation settings"
            raise SceneError(f"{settings}: {' '.join(str(error).split())}") from None

    def generated(self, module: torch.nn.Module, inputs: Mapping[str, Any]) -> torch.Tensor:
        """[rows × texts a row, length] token ids as `generate` gives them, the best text of a row first."""
        import torch

        generator: Any = module
        # with ZeRO-3 every rank has to run as many forward passes as the slowest one
        partitioned = any(hasattr(parameter, "ds_id") for parameter in module.parameters())
        ids: torch.Tensor = generator.generate(
            **inputs, synced_gpus=partitioned and torch.distributed.get_world_size() > 1
        )
        return ids


def texts_of_rows(tokenizer: Any, ids: torch.Tensor, rows: int) -> list[list[str]]:
    """The texts of each of so many rows, from [rows × texts a row, length] token ids, without special tokens."""
    texts = tokenizer.batch_decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    each = len(texts) // rows
    return [texts[row * each : (row + 1) * each] for row in range(rows)]


@model("seq2seq")
@dataclass
class Seq2Seq(Generation):
    """Text generation by an encoder-decoder, trained by teacher forcing.

    The loss is the sum of the cross-entropy over the tokens of the target, special tokens included.
    """

    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    min_length: Annotated[int | None, Range(0)] = None
    """Shortest generated text in tokens, the start token included."""
    label_smoothing_factor: Annotated[float, Range(0, 1)] = 0.0
    """Share of the target that is spread evenly over the vocabulary."""

    def generation_settings(self) -> Mapping[str, Any]:
        own = {} if self.min_length is None else {"min_length": self.min_length}
        return {**super().generation_settings(), **own}

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape, labels.side) != ("int64", "ragged", "right"):
            raise SceneError(
                f"{self.name} learns labels that are token ids; give the target as the second column of s2s_tokenize"
            )
        return "text"

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        self._tokenizer = pretrained.tokenizer
        module = self._load(pretrained)
        self.set_generation(module.generation_config)
        self._shift = shifting(module)
        self._accepts = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        return module  # type: ignore[no-any-return]

    def _load(self, pretrained: Pretrained) -> Any:
        """The module with its weights."""
        if not pretrained.config.is_encoder_decoder:
            raise SceneError(f"seq2seq needs an encoder-decoder; '{pretrained.config.model_type}' is none")
        return pretrained.load("AutoModelForSeq2SeqLM")

    def count(self, batch: Batch) -> int:
        return int((self._learned(batch) != -100).sum())

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch.nn.functional as F

        labels = self._learned(batch)
        logits = module(**self._inputs(batch), decoder_input_ids=self._shift(labels), use_cache=False).logits
        real = labels != -100
        total = F.cross_entropy(
            logits[real].float(), labels[real], reduction="sum", label_smoothing=self.label_smoothing_factor
        )
        return Loss(total, self.count(batch))

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        with source_in_place():
            ids = self.generated(module, self._inputs(batch))
        return {"texts": texts_of_rows(self._tokenizer, ids, len(batch["input_ids"]))}

    def _learned(self, batch: Batch) -> torch.Tensor:
        """[rows, length] the tokens of the target that are learned, -100 where there is none."""
        labels: torch.Tensor = batch["labels"]
        return labels

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        return {name: value for name, value in batch.items() if name in self._accepts}


def shifting(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes the decoder's input of the labels, as the architecture has it."""
    if hasattr(module, "prepare_decoder_input_ids_from_labels"):
        # a method of the module, but one that reads its config only, so it works on partitioned weights too
        own: Callable[[torch.Tensor], torch.Tensor] = module.prepare_decoder_input_ids_from_labels
        return own
    return lambda labels: _shift_right(labels, module.config.decoder_start_token_id, module.config.pad_token_id)


def _shift_right(labels: torch.Tensor, start: int, pad: int) -> torch.Tensor:
    """What the decoder is given to predict each label: the label before it."""
    shifted = labels.new_full(labels.shape, start)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == -100, pad)


@contextlib.contextmanager
def source_in_place() -> Iterator[None]:
    """Leaves the keys and values of the source where they are when a beam search reorders its beams.

    Beams change places within a row only, and the beams of a row look at the same source. Transformers copies these
    tensors at every token all the same, which takes a sixth of the time of a small model.
    """
    from transformers.cache_utils import EncoderDecoderCache

    def reorder_target(self: EncoderDecoderCache, beam_idx: torch.LongTensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)

    reorder_both = EncoderDecoderCache.reorder_cache
    EncoderDecoderCache.reorder_cache = reorder_target
    try:
        yield
    finally:
        EncoderDecoderCache.reorder_cache = reorder_both
