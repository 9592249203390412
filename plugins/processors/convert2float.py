"""Processor `convert2float`: a column of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.cells import FLOAT, floats, refuse
from ...kernel.contracts import Field, Processor
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("convert2float")
@dataclass
class Convert2Float(Processor):
    """Finite decimal numbers as float32; spaces around them are allowed, `nan` and `inf` are bad rows."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "float32"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim_whitespace(columns[0])
        refuse(
            self.inputs[0],
            columns[0],
            (pc.invert(pc.match_substring_regex(trimmed, f"^{FLOAT}$")), "is not a number"),
        )
        numbers, too_large = floats(trimmed)
        refuse(self.inputs[0], columns[0], (too_large, "does not fit into 32 bits"))
        return {self.output: numbers}
