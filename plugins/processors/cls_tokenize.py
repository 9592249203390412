"""Processor `cls_tokenize`: one text, or a pair of texts, as token ids."""

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

    from ...kernel.encoding import Texts


@processor("cls_tokenize")
@dataclass
class ClsTokenize(Processor):
    """Token ids of one column, or of two as a pair, with the special tokens of the tokenizer.

    The output keys are always `input_ids` and, where the tokenizer has them, `token_type_ids`; the attention mask is
    made when rows are padded.
    """

    columns_in: ClassVar[tuple[int, int]] = (1, 2)

    source_max_length: Annotated[int | None, Alias("tok_max_length"), Range(1)] = None
    """Longest input in tokens, a pair together; by default what the model takes, at most 1024."""
    sen_sep: str | None = " #Z# "
    """A single text that contains this is split there; its first two parts are taken as a pair."""

    def fields(self) -> tuple[Field, ...]:
        return (
            Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),
            Field("token_type_ids", "int64", "ragged", padding="pad_token_type"),
        )

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        assert self.pretrained is not None
        for name, cells in zip(self.inputs, columns, strict=True):
            refuse(name, cells)
        encoded = self.pretrained.encoder(self.source_max_length)(self._texts(columns))
        self.count_cut("input_ids", encoded.truncated)
        features = {"input_ids": encoded.input_ids}
        if encoded.token_type_ids is not None:
            features["token_type_ids"] = encoded.token_type_ids
        return features

    def _texts(self, columns: Sequence[pa.Array]) -> Texts:
        """The rows as the encoder takes them: texts, pairs, or both mixed."""
        import pyarrow.compute as pc

        texts: list[str] = columns[0].to_pylist()
        if len(columns) == 2:
            return list(zip(texts, columns[1].to_pylist(), strict=True))
        if not self.sen_sep or not pc.any(pc.match_substring(columns[0], self.sen_sep)).as_py():
            return texts
        parts = [text.split(self.sen_sep) for text in texts]
        return [(part[0], part[1]) if len(part) > 1 else part[0] for part in parts]
