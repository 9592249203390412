"""A processor that leaks: a file for `deepgen plugin check`."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor

KEPT: list[Any] = []


@processor("keeps")
@dataclass
class Keeps(Processor):
    """Keeps sixteen pages of memory of each batch."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        kept = mmap.mmap(-1, 1 << 16)  # not of the heap, where there may be room
        kept[:] = b"x" * (1 << 16)
        KEPT.append(kept)
        return {self.output: pc.cast(pc.utf8_length(columns[0]), pa.int64())}
