"""Model `unilm`: a text from a text, by one BERT encoder with the attention mask of UniLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...kernel.contracts import Batch, Loss
from ...kernel.errors import SceneError
from ...kernel.registry import model
from .seq2label_unilm import UnilmEncoder, encoder_architecture
from .seq2seq import LONGEST, Seq2Seq

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained
    from ...kernel.scene import Scene, Split


@model("unilm")
@dataclass
class Unilm(UnilmEncoder, Seq2Seq):
    """Text generation by one BERT encoder (UniLM, arXiv 1905.03197): tokens of the source see the whole source, tokens
    of the target see the source and the target up to themselves.

    Source and target are one row of positions; the source is segment 0, the target segment 1. The target begins with a
    start token, which is given, and each token predicts the one that follows it; the loss is the sum of the
    cross-entropy over the tokens of the target and its end token. The original learns to fill in masked tokens of the
    target instead, which needs two places a step to generate one token: the last token and a mask. Here a token is
    computed once and alike in training and generation, so that the source is encoded once, each token adds its keys and
    values to the cache, and the cache changes no answer.

    It starts from any BERT, whose [CLS] and [SEP] begin and end the target where the tokenizer has no tokens of its own
    for that. The model folder is a BERT's: encoder and head for masked tokens.
    """

    needs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        limits = ("source_max_length", "target_max_length")[: 1 if tuple(splits) == ("predict",) else 2]
        free = [name for name in limits if name in scene.values and scene.values[name].value is None]
        notes = super().check(scene, splits)
        if not free:
            return notes
        what = f"{' and '.join(free)} {'is' if len(free) == 1 else 'are'} not set"
        return [*notes, f"{what}: a row whose source and target together are longer than the model takes ends the run"]

    def _load(self, pretrained: Pretrained) -> Any:
        tokenizer = pretrained.tokenizer
        module = self.load_encoder(pretrained, _architecture(), is_encoder_decoder=True)
        self._positions = int(module.config.max_position_embeddings)
        start = _first(tokenizer.bos_token_id, tokenizer.cls_token_id)
        end = _first(tokenizer.eos_token_id, tokenizer.sep_token_id)
        if start is None or end is None:
            raise SceneError("unilm needs a tokenizer with a start and an end token, such as [CLS] and [SEP]")
        self._front = tokenizer("a")["input_ids"][:1] == [start]
        generation = module.generation_config
        generation.bos_token_id = generation.decoder_start_token_id = start
        generation.eos_token_id, generation.pad_token_id = end, tokenizer.pad_token_id
        if generation.max_new_tokens is None:  # as many tokens are left to the source
            generation.max_new_tokens = min(LONGEST, self._positions - self._positions // 2)
        generation.max_length = None
        if (self.max_new_tokens or 0) >= self._positions:
            raise SceneError(
                f"max_new_tokens = {self.max_new_tokens}, but the model takes {self._positions} tokens, source and "
                "target together"
            )
        return module

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        mask, labels = batch["attention_mask"], self._learned(batch)
        if mask.shape[1] + labels.shape[1] > self._positions:  # a look at the numbers waits for the device
            ends = mask.sum(1) + (labels != -100).sum(1)
            self._fits(int(ends.max()), "source_max_length or target_max_length")
        return super().loss(module, batch)

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        owner: Any = module
        longest = int(batch["attention_mask"].sum(1).max())
        self._fits(longest + owner.generation_config.max_new_tokens, "max_new_tokens or source_max_length")
        return super().predict(module, batch)

    def save(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        owner: Any = module
        owner.config.is_encoder_decoder = False  # the folder is that of an encoder
        try:
            super().save(module, state, folder)
        finally:
            owner.config.is_encoder_decoder = True

    def _learned(self, batch: Batch) -> torch.Tensor:
        labels: torch.Tensor = batch["labels"]
        return labels[:, 1:] if self._front else labels  # the start token is given

    def _fits(self, tokens: int, settings: str) -> None:
        """Refuses rows for which there are not enough positions."""
        if tokens > self._positions:
            raise SceneError(
                f"source and target have {tokens} tokens together, and the model takes {self._positions}; lower "
                f"{settings}"
            )


def _first(*tokens: int | None) -> int | None:
    return next((token for token in tokens if token is not None), None)


@cache
def _architecture() -> type[Any]:
    import torch
    from transformers import BertLMHeadModel, DynamicCache
    from transformers.modeling_outputs import Seq2SeqLMOutput

    class Source:
        """What `generate` calls the encoder: encodes the source, once for all beams."""

        def __init__(self, bert: Any) -> None:
            self._bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, Any]:
            """The source as it is, and its keys and values [rows, layers, heads, tokens, size]."""
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            made: Any = DynamicCache()
            self._bert(input_ids, attention_mask=mask, position_ids=_places(mask), past_key_values=made)
            return {
                "input_ids": input_ids,
                "source_keys": torch.stack([layer.keys for layer in made.layers], dim=1),
                "source_values": torch.stack([layer.values for layer in made.layers], dim=1),
            }

        def __call__(self, input_ids: torch.Tensor, attention_mask: Any = None, **_: Any) -> dict[str, Any]:
            return self.forward(input_ids, attention_mask)

    class Joined:
        """Keys and values of source and target in one, of an `EncoderDecoderCache`; beams reorder the target's only."""

        def __init__(self, cache: Any, source: Mapping[str, torch.Tensor]) -> None:
            self._source, self._target = cache.cross_attention_cache, cache.self_attention_cache
            if self._source.get_seq_length() == 0:
                both = (source["source_keys"].unbind(1), source["source_values"].unbind(1))
                for layer, (keys, values) in enumerate(zip(*both, strict=True)):
                    self._source.update(keys, values, layer)

        def get_seq_length(self) -> int:
            return int(self._target.get_seq_length())

        def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
            source = self._source.layers[layer]
            keys, values = self._target.update(keys, values, layer)
            return torch.cat([source.keys, keys], dim=2), torch.cat([source.values, values], dim=2)

    class UnilmForSeq2Seq(BertLMHeadModel):  # type: ignore[misc]
        """To `generate` it is an encoder-decoder, so that what it does to a text does not see the source."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.bert = encoder_architecture()(config, add_pooling_layer=False)
            self.post_init()

        def get_encoder(self, modality: str | None = None) -> Source:
            return Source(self.bert)

        def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
            """What is given to predict each label: the start token, and the label before it."""
            start = labels.new_full((len(labels), 1), self.generation_config.decoder_start_token_id)
            given = torch.cat([start, labels[:, :-1]], dim=1)
            return given.masked_fill(given == -100, self.generation_config.pad_token_id)

        def forward(
            self,
            input_ids: Any = None,
            attention_mask: Any = None,
            decoder_input_ids: Any = None,
            encoder_outputs: Any = None,
            past_key_values: Any = None,
            use_cache: bool | None = None,
            **_: Any,
        ) -> Any:
            """Logits [rows, tokens of the target, vocabulary]: all in one pass, or of the newest with a cache."""
            source = input_ids if encoder_outputs is None else encoder_outputs["input_ids"]
            mask = torch.ones_like(source) if attention_mask is None else attention_mask
            if past_key_values is None or not use_cache:
                states = self.read(torch.cat([source, decoder_input_ids], dim=1), mask)
                return Seq2SeqLMOutput(logits=self.cls(states))
            encoded: Any = encoder_outputs
            joined = Joined(past_key_values, encoded)
            before = joined.get_seq_length()
            states = self.read(decoder_input_ids, mask, joined, before)
            return Seq2SeqLMOutput(logits=self.cls(states), past_key_values=past_key_values)

        def read(self, ids: torch.Tensor, source: torch.Tensor, cached: Any = None, before: int = 0) -> torch.Tensor:
            """States of the target, [rows, tokens, size].

            Args:
                ids: source and target, or with a cache what of the target is new.
                source: mask of the source, [rows, tokens].
                cached: the cache, which holds the source and `before` tokens of the target.
            """
            known = source.shape[1]
            width = ids.shape[1] + (0 if cached is None else known + before)
            every = torch.cat([source, source.new_ones(len(ids), width - known)], dim=1)
            # padding behind the end of a target may lie behind the last position
            places = _places(every).clamp(max=self.config.max_position_embeddings - 1)
            keys = torch.arange(width, device=ids.device)
            queries = keys[width - ids.shape[1] :]
            segments = (queries >= known).long().clamp(max=self.config.type_vocab_size - 1)
            states: torch.Tensor = self.bert(
                ids,
                attention_mask=every[:, None, :].bool() & ((keys < known) | (keys <= queries[:, None])),
                position_ids=places[:, queries],
                key_positions=places,
                token_type_ids=segments.expand(len(ids), -1),
                past_key_values=cached,
            ).last_hidden_state
            return states if cached is not None else states[:, known:]

    return UnilmForSeq2Seq


def _places(mask: torch.Tensor) -> torch.Tensor:
    """The position of each token, counted without the padding before it."""
    return (mask.cumsum(1) - 1).clamp(min=0)
