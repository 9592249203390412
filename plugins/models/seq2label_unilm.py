"""Model `seq2label_unilm`: classes or a number for a text, by UniLM's encoder, which is here for other tasks too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ...kernel.contracts import Model
from ...kernel.errors import SceneError
from ...kernel.options import Range
from ...kernel.registry import model
from .seq2label import Seq2Label

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained
    from ...kernel.scene import Scene, Split

RELATIVE = {"rel_pos_type": 0, "rel_pos_bins": 32, "max_rel_pos": 128}
"""Settings of relative positions, as options and in config.json; the numbers are those of UniLM v2 and T5."""


@dataclass
class UnilmEncoder(Model):
    """What tasks share whose encoder is UniLM's: BERT with relative positions, and with one matrix for q, k and v."""

    rel_pos_type: Literal[0, 1, 2] | None = None
    """Relative positions (UniLM v2, arXiv 2002.12804): attention is biased by the distance of two tokens, by head and
    alike in all layers. 1: a bias for each distance up to max_rel_pos; 2: for each of rel_pos_bins, which grow with the
    distance (arXiv 1910.10683); 0: none. By default what the checkpoint has, or none."""
    rel_pos_bins: Annotated[int | None, Range(4)] = None
    """Buckets of distances, half of them for each direction; by default 32."""
    max_rel_pos: Annotated[int | None, Range(1)] = None
    """Distances from here on have one bias; by default 128."""
    fast_qkv: bool = False
    """Compute queries, keys and values by one matrix. Keys have no bias then, which changes no answer; the model folder
    holds them apart, as BERT does."""

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        if self.fast_qkv and scene.values["use_peft"].value and scene.values["lora_save"].value == "adapter":
            raise SceneError(
                "fast_qkv: an adapter is laid over q, k and v apart; use lora_save: merged, or leave it out"
            )
        idle = [name for name in ("rel_pos_bins", "max_rel_pos") if vars(self)[name] and self.rel_pos_type == 0]
        if self.rel_pos_bins and self.rel_pos_type == 1:
            idle.append("rel_pos_bins")
        notes = [f"{name} has no effect, as rel_pos_type is {self.rel_pos_type}" for name in idle]
        return [*notes, *super().check(scene, splits)]

    def load_encoder(self, pretrained: Pretrained, architecture: type[Any], **settings: Any) -> Any:
        """A module of that architecture around the encoder, with the weights of a BERT.

        Raises:
            SceneError: the checkpoint is no BERT, or has relative positions that are not those asked for.
        """
        config = pretrained.config
        if config.model_type != "bert":
            raise SceneError(f"{self.name} needs the weights of a BERT, and '{config.model_type}' is none")
        known = {name: vars(config)[name] for name in RELATIVE if name in vars(config)}
        asked = {name: value for name in RELATIVE if (value := vars(self)[name]) is not None}
        positions = {**RELATIVE, **known, **asked}
        changed = [name for name, value in asked.items() if value != known.get(name)]
        if positions["rel_pos_type"] and known.get("rel_pos_type") and changed:
            there = ", ".join(f"{name} = {value}" for name, value in known.items())
            raise SceneError(f"{' and '.join(changed)}: the checkpoint has learned its biases with {there}")
        bins, furthest = positions["rel_pos_bins"], positions["max_rel_pos"]
        if positions["rel_pos_type"] == 2 and (bins % 2 or bins // 4 >= furthest):
            raise SceneError(
                f"rel_pos_bins = {bins} has to be even, and max_rel_pos = {furthest} greater than a quarter of it"
            )
        module: Any = pretrained.load(architecture, **settings, **positions)
        if module.config._attn_implementation not in ("eager", "sdpa"):
            raise SceneError(
                f"attn_implementation = '{module.config._attn_implementation}' cannot do this; use sdpa or eager"
            )
        if self.fast_qkv:
            fuse(module.bert)
        return module

    def save(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        super().save(module, apart(state), folder)


@model("seq2label_unilm")
@dataclass
class Seq2LabelUnilm(UnilmEncoder, Seq2Label):
    """Sequence classification and regression as `seq2label`, by an encoder with relative positions and one matrix for
    queries, keys and values.

    It starts from the weights of any BERT, and answers as that does: a table of relative positions that is new holds
    zeros, and `fast_qkv` changes no answer. The model folder is a BERT's with the table beside; without relative
    positions it is a plain one.
    """

    def _load(self, pretrained: Pretrained, settings: Mapping[str, Any]) -> torch.nn.Module:
        module: torch.nn.Module = self.load_encoder(pretrained, _architecture(), **settings)
        return module


@cache
def _architecture() -> type[Any]:
    from transformers import BertForSequenceClassification

    class UnilmForSequenceClassification(BertForSequenceClassification):  # type: ignore[misc]
        """BERT's pooler (tanh), dropout and linear layer on UniLM's encoder."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.bert = encoder_architecture()(config)
            self.post_init()

    return UnilmForSequenceClassification


def buckets(distance: torch.Tensor, bins: int, furthest: int) -> torch.Tensor:
    """The bucket of each distance (key - query): T5's, arXiv 1910.10683, section 2.1, in both directions.

    Half of the bins are for keys behind the query. Of each half, one half holds a distance each, and the others grow
    with its logarithm; the last holds all from `furthest` on.
    """
    import torch

    half = bins // 2
    exact = half // 2
    far = distance.abs()
    growth = torch.log(far.clamp(min=1).float() / exact) / math.log(furthest / exact)
    grown = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(far < exact, far, grown)


def apart(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights by BERT's names, where some are those of `fast_qkv`."""
    plain: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        layer, _, own = name.rpartition(".self.")
        if own == "qkv.weight":
            parts = {f"{part}.weight": one for part, one in zip(("query", "key", "value"), value.chunk(3), strict=True)}
        elif own == "q_bias":  # a bias of the keys adds the same to all scores of a query
            parts = {"query.bias": value, "key.bias": value.new_zeros(value.shape)}
        elif own == "v_bias":
            parts = {"value.bias": value}
        else:
            plain[name] = value
            continue
        plain.update({f"{layer}.self.{part}": one.contiguous() for part, one in parts.items()})
    return plain


def fuse(encoder: Any) -> None:
    """Makes one matrix of the three that each layer has for queries, keys and values."""
    import torch

    for layer in encoder.encoder.layer:
        old = layer.attention.self
        fused = fused_attention()(old.config, layer_idx=old.layer_idx)
        with torch.no_grad():
            fused.qkv.weight.copy_(torch.cat([old.query.weight, old.key.weight, old.value.weight]))
            fused.q_bias.copy_(old.query.bias)
            fused.v_bias.copy_(old.value.bias)
        layer.attention.self = fused


@cache
def fused_attention() -> type[Any]:
    """BERT's self-attention with one matrix for queries, keys and values, as UniLM has it (`fast_qkv`)."""
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.bert.modeling_bert import BertSelfAttention, eager_attention_forward

    class FusedSelfAttention(BertSelfAttention):  # type: ignore[misc]
        def __init__(self, config: Any, layer_idx: int) -> None:
            super().__init__(config, layer_idx=layer_idx)
            del self.query, self.key, self.value
            self.qkv = torch.nn.Linear(config.hidden_size, 3 * self.all_head_size, bias=False)
            self.q_bias = torch.nn.Parameter(torch.zeros(self.all_head_size))
            self.v_bias = torch.nn.Parameter(torch.zeros(self.all_head_size))

        def forward(
            self, hidden_states: torch.Tensor, attention_mask: Any = None, past_key_values: Any = None, **more: Any
        ) -> tuple[torch.Tensor, Any]:
            query, key, value = self.qkv(hidden_states).chunk(3, dim=-1)
            heads = (*hidden_states.shape[:-1], -1, self.attention_head_size)
            query, key, value = (
                one.view(heads).transpose(1, 2) for one in (query + self.q_bias, key, value + self.v_bias)
            )
            if past_key_values is not None:
                key, value = past_key_values.update(key, value, self.layer_idx)
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
            dropout = self.dropout.p if self.training else 0.0
            made, weights = attend(
                self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **more
            )
            return made.reshape(*hidden_states.shape[:-1], -1).contiguous(), weights

    return FusedSelfAttention


@cache
def encoder_architecture() -> type[Any]:
    """The encoder: BERT whose tokens see what a mask of their own says, and are biased by their distance."""
    import torch
    from transformers import initialization
    from transformers.models.bert.modeling_bert import BertModel

    class Biases(torch.nn.Module):
        """A learned number for each bucket of distances and head."""

        def __init__(self, size: int, heads: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(heads, size))

        def forward(self, found: torch.Tensor) -> torch.Tensor:
            """[rows, heads, queries, keys] from buckets [rows, queries, keys]."""
            biases: torch.Tensor = torch.nn.functional.embedding(found, self.weight.T)
            return biases.permute(0, 3, 1, 2)

    class UnilmModel(BertModel):  # type: ignore[misc]
        def __init__(self, config: Any, add_pooling_layer: bool = True) -> None:
            super().__init__(config, add_pooling_layer)
            # named and laid out as in UniLM's checkpoints
            size = (0, 2 * config.max_rel_pos + 1, config.rel_pos_bins)[config.rel_pos_type]
            self.rel_pos_bias = Biases(size, config.num_attention_heads) if size else None

        def _init_weights(self, module: torch.nn.Module) -> None:
            super()._init_weights(module)
            if isinstance(module, Biases):
                initialization.zeros_(module.weight)  # a BERT answers as it did until it has learned some

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor | None = None,
            position_ids: torch.Tensor | None = None,
            key_positions: torch.Tensor | None = None,
            **more: Any,
        ) -> Any:
            """BERT's, with an `attention_mask` [rows, keys] or [rows, queries, keys] of what each token sees.

            `key_positions` [rows, keys] are those of all tokens, where a cache holds more than `input_ids` [rows,
            queries].
            """
            mask: Any = attention_mask
            if self.rel_pos_bias is not None:
                places = position_ids
                if places is None:
                    places = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
                distance = (places if key_positions is None else key_positions)[:, None, :] - places[:, :, None]
                mask = self.rel_pos_bias(self.bucket(distance))
            elif mask is not None and mask.ndim == 3:
                mask = self.embeddings.word_embeddings.weight.new_zeros(())
            if mask is not None and mask is not attention_mask and attention_mask is not None:
                seen = attention_mask.bool()
                seen = seen[:, None] if seen.ndim == 3 else seen[:, None, None]
                mask = mask.where(seen, torch.finfo(mask.dtype).min)
            return super().forward(input_ids, attention_mask=mask, position_ids=position_ids, **more)

        def bucket(self, distance: torch.Tensor) -> torch.Tensor:
            """The column of the table for each distance."""
            furthest: int = self.config.max_rel_pos
            if self.config.rel_pos_type == 1:
                return distance.clamp(-furthest, furthest) + furthest
            return buckets(distance, self.config.rel_pos_bins, furthest)

    return UnilmModel
