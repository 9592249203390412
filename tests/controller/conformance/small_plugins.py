"""A processor that takes its time, and an outputter."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import Field, Outputter, Predictions, Processor
from deepgen.kernel.registry import outputter, processor


@processor("slow")
@dataclass
class Slow(Processor):
    """The length of a text, found in half a second a megabyte."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        time.sleep(columns[0].nbytes / (2 << 20))
        return {self.output: pc.cast(pc.utf8_length(columns[0]), pa.int64())}


@outputter("steady")
@dataclass
class Steady(Outputter):
    """The row numbers."""

    fits = frozenset({"regression"})

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ("row",)

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [f"{row}\n" for row in predictions.rows]
