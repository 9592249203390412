"""Processor `my_processor`: the number of words of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from deepgen.kernel.cells import refuse
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.options import Range
from deepgen.kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("my_processor")
@dataclass
class MyProcessor(Processor):
    """Counts words, as numbers to learn: `my_processor:COLUMN:labels`. A text without words is a bad row."""

    most_words: Annotated[int, Range(1)] = 100
    """Longer texts count as so many words."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "float32"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import pyarrow as pa
        import pyarrow.compute as pc

        words = pc.count_substring_regex(columns[0], r"\S+")
        refuse(self.inputs[0], columns[0], (pc.equal(words, 0), "has no words"))
        return {self.output: pc.cast(pc.min_element_wise(words, self.most_words), pa.float32())}
