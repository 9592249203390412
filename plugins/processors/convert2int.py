"""Processor `convert2int`: a column of whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("convert2int")
@dataclass
class Convert2Int(Processor):
    """Whole numbers of at most 64 bits, with or without a sign; spaces around them are allowed."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import pyarrow as pa
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim_whitespace(columns[0])
        refuse(
            self.inputs[0],
            columns[0],
            (pc.invert(pc.match_substring_regex(trimmed, r"^[+-]?[0-9]+$")), "is not a whole number"),
        )
        digits = pc.replace_substring_regex(trimmed, r"^\+?(-?)0*([0-9])", r"\1\2")
        try:
            return {self.output: pc.cast(digits, pa.int64())}
        except pa.ArrowInvalid:
            # Python refuses to read thousands of digits
            too_large = [len(cell) > 20 or not -(2**63) <= int(cell) < 2**63 for cell in digits.to_pylist()]
            refuse(self.inputs[0], columns[0], (pa.array(too_large), "does not fit into 64 bits"))
            raise
