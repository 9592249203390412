"""Processor `twinbert_tokenize`: a query and a document as two independent encodings, or one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.errors import SceneError
from ...kernel.options import Alias, Range
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("twinbert_tokenize")
@dataclass
class TwinbertTokenize(Processor):
    """Token ids of the first column as `q_input_ids` and of the second as `d_input_ids`, each with special tokens.

    The masks `q_attention_mask` and `d_attention_mask` are made when rows are padded. There are no token types: each
    side is one text, and all its tokens are of the first type, which is what a model takes where none are given. One
    column alone is `q_input_ids`, whichever tower of the model embeds it.
    """

    columns_in: ClassVar[tuple[int, int]] = (1, 2)

    source_max_length: Annotated[int | None, Alias("tok_max_length"), Range(1)] = None
    """Longest first column in tokens; by default what the model takes, at most 1024."""
    target_max_length: Annotated[int | None, Range(1)] = None
    """Longest second column in tokens; by default what the model takes, at most 1024."""
    single_tower: Literal["q", "d"] | None = None
    """One column alone is a query, or a document, which target_max_length cuts."""

    def fields(self) -> tuple[Field, ...]:
        sides = "qd"[: len(self.inputs)]
        return tuple(
            Field(
                f"{side}_input_ids", "int64", "ragged", padding="pad_token", mask=f"{side}_attention_mask", length=True
            )
            for side in sides
        )

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        assert self.pretrained is not None
        for name, cells in zip(self.inputs, columns, strict=True):
            refuse(name, cells)
        features = {}
        limits = {"source_max_length": self.source_max_length, "target_max_length": self.target_max_length}
        used = list(limits.items())[self.single_tower == "d" and len(columns) == 1 :]
        for side, cells, (setting, limit) in zip("qd", columns, used, strict=False):
            most = self.pretrained.positions
            if limit is not None and most is not None and limit > most:
                raise SceneError(f"{setting} = {limit} is more than the model takes: at most {most} tokens")
            encoded = self.pretrained.encoder(limit)(cells.to_pylist())
            self.count_cut(f"{side}_input_ids", encoded.truncated)
            features[f"{side}_input_ids"] = encoded.input_ids
        return features
