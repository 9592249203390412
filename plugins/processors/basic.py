"""Processor `basic`: a column as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.contracts import Field, Processor
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("basic")
@dataclass
class Basic(Processor):
    """Passes a column on as text; a header item without a processor means this one."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "string"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: columns[0]}
