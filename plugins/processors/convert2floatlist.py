"""Processor `convert2floatlist`: a column of number lists, all of one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.cells import FLOAT, floats, refuse
from ...kernel.contracts import Field, Processor
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


TOLERANCE = 0.01
"""How far probabilities may add up to something else than 1: those of 20 classes are written with three digits."""


@processor("convert2floatlist")
@dataclass
class Convert2FloatList(Processor):
    """Lists of finite decimal numbers as float32, written `0.5,0.2` or `0.5 0.2`, the same length in every row."""

    sum_to_one: bool = False
    """Take probabilities only: a row with a number below 0, or with a sum more than 0.01 from 1, is a bad row."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "float32", "fixed"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import pyarrow as pa
        import pyarrow.compute as pc

        name, cells = self.inputs[0], columns[0]
        trimmed = pc.utf8_trim_whitespace(cells)
        listed = rf"^{FLOAT}((\s*,\s*|\s+){FLOAT})*$"
        refuse(name, cells, (pc.invert(pc.match_substring_regex(trimmed, listed)), "is not a list of numbers"))
        if len(cells) == 0:
            return {self.output: pa.array([], pa.list_(pa.float32()))}
        lists = pc.split_pattern_regex(trimmed, r"\s*,\s*|\s+")
        numbers, too_large = floats(lists.flatten())
        if pc.any(too_large).as_py():
            rows = pc.list_parent_indices(lists).filter(too_large)
            bad = pc.is_in(pa.array(range(len(cells)), rows.type), value_set=rows)
            refuse(name, cells, (bad, "has a number that does not fit into 32 bits"))
        lengths = pc.list_value_length(lists)
        width = pc.mode(lengths)[0]["mode"].as_py()
        refuse(name, cells, (pc.not_equal(lengths, width), f"has not {width} numbers, as the other rows have"))
        if self.sum_to_one:
            import numpy as np

            table = numbers.to_numpy().reshape(-1, width)
            refuse(
                name,
                cells,
                (pa.array((table < 0).any(axis=1)), "has a number below 0, which is no probability"),
                (pa.array(np.abs(table.sum(axis=1) - 1) > TOLERANCE), "does not add up to 1, as probabilities do"),
            )
        return {self.output: pa.FixedSizeListArray.from_arrays(numbers, width)}
