"""Processor `label_mapping`: a column of label names as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.label_names import Mapped, parse
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("label_mapping")
@dataclass
class LabelMapping(Processor):
    """Label names as class numbers, or as plain numbers where any value of the mapping has a decimal point."""

    label_mapping: dict[str, str] = field(default_factory=lambda: {"1": "1", "0": "0"})
    """Number of each label, as `name:number,…` or a mapping: classes 0, 1, 2 … without gaps, or decimal numbers."""

    def __post_init__(self) -> None:
        self._mapped: Mapped = parse(self.label_mapping)

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, self._mapped.dtype),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import pyarrow as pa
        import pyarrow.compute as pc

        places = pc.index_in(columns[0], value_set=pa.array(self._mapped.names, columns[0].type))
        refuse(self.inputs[0], columns[0], (pc.is_null(places), self._mapped.reason))
        return {self.output: pc.take(pa.array(self._mapped.numbers, self._mapped.dtype), places)}

    def class_names(self) -> tuple[str, ...]:
        return self._mapped.class_names
