"""A processor that gives one value too few: a file for `deepgen plugin check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import BadRow, BadRows, Field, Processor
from deepgen.kernel.registry import processor


@processor("lacks_one")
@dataclass
class LacksOne(Processor):
    """The lengths of texts, and those of all but the first; an empty text is a bad row."""

    def fields(self) -> tuple[Field, ...]:
        return (Field("number", "int64"), Field(self.output, "int64"))

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        if empty := pc.indices_nonzero(pc.equal(columns[0], "")).to_pylist():
            raise BadRows([BadRow(row, self.inputs[0], "", "is empty") for row in empty])
        lengths = pc.cast(pc.utf8_length(columns[0]), pa.int64())
        return {"number": lengths, self.output: lengths[1:]}
