"""Plugins whose faults a suite overlooks easily: a file for `deepgen plugin check`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import Field, Metric, Outputter, Predictions, Processor, State
from deepgen.kernel.registry import metric, outputter, processor

OPEN: list[Any] = []


class Length(Processor):
    """The length of a text."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: pc.cast(pc.utf8_length(columns[0]), pa.int64())}


@processor("never_works")
@dataclass
class NeverWorks(Length):
    """Fails at every row."""

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        raise KeyError("nothing")


@processor("never_made")
@dataclass
class NeverMade(Length):
    """Cannot be made."""

    def __post_init__(self) -> None:
        raise RuntimeError("not today")


@processor("modest")
@dataclass
class Modest(Length):
    """Fails at many rows."""

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        if len(columns[0]) > 1000:
            raise MemoryError("too much")
        return super().process(columns)


@metric("spends")
@dataclass
class Spends(Metric):
    """Changes the state that it computes from."""

    fits = frozenset({"regression"})

    def keys(self) -> tuple[str, ...]:
        return ("hits",)

    def update(self, predictions: Predictions) -> State:
        assert predictions.scores is not None
        return {"hit": (predictions.scores[:, 0] < predictions.labels).astype(np.float64)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        if not state or not len(state["hit"]):
            return {"hits": float("nan")}
        hits = float(state["hit"].mean())
        state["hit"][:] = 0
        return {"hits": hits}


@outputter("stays_open")
@dataclass
class StaysOpen(Outputter):
    """Makes no file after one that was not brought to its end."""

    fits = frozenset({"regression"})

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ("row",)

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [f"{row}\n".encode() for row in predictions.rows]

    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        if OPEN:
            raise RuntimeError("a file is open")
        OPEN.append(file)
        file.writelines(rows)
        OPEN.clear()
