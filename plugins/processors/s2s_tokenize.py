"""Processor `s2s_tokenize`: a source text, and a target text where there is one, as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.options import Alias, Range
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("s2s_tokenize")
@dataclass
class S2sTokenize(Processor):
    """Token ids of the source as `input_ids` and of the target as `labels`, with the tokenizer's special tokens."""

    columns_in: ClassVar[tuple[int, int]] = (1, 2)

    source_max_length: Annotated[int | None, Alias("tok_max_length"), Range(1)] = None
    """Longest input in tokens, a pair together; by default what the model takes, at most 1024."""
    target_max_length: Annotated[int | None, Range(1)] = None
    """Longest target in tokens; by default what the model takes, at most 1024."""

    def fields(self) -> tuple[Field, ...]:
        source = Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True)
        target = Field("labels", "int64", "ragged", padding=-100, side="right", length=True)
        return (source, target)[: len(self.inputs)]

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        assert self.pretrained is not None
        for name, cells in zip(self.inputs, columns, strict=True):
            refuse(name, cells)
        features = {}
        source = self.pretrained.encoder(self.source_max_length)(columns[0].to_pylist())
        self.count_cut("input_ids", source.truncated)
        features["input_ids"] = source.input_ids
        if len(columns) == 2:
            target = self.pretrained.encoder(self.target_max_length, target=True)(columns[1].to_pylist())
            self.count_cut("labels", target.truncated)
            features["labels"] = target.input_ids
        return features

    def reference_column(self) -> str | None:
        return self.inputs[1] if len(self.inputs) == 2 else None
