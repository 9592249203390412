"""A plugin under test, whichever way it is reached: the calls of its kind with rows, states and predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.plugin_service_pb2 import ConfigureResponse

from ...kernel.contracts import BadRow, Predictions, State

ROUNDING = 1e-4
"""A model behind a plugin rounds otherwise in other company: its batches are padded and added up in another order."""
SAME = f"the same values; floating-point numbers within {ROUNDING:g} of the largest of their field"


class Failed(Exception):
    """The plugin answered with a failure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.message = kind, message


class Unread(Exception):
    """The plugin named rows that it cannot read."""

    def __init__(self, rows: Sequence[BadRow]) -> None:
        shown = ", ".join(f"row {bad.row} ({bad.value!r} {bad.reason})" for bad in rows[:3])
        super().__init__(f"bad rows: {shown}{' …' if len(rows) > 3 else ''}")
        self.rows = list(rows)


class Subject(Protocol):
    """One plugin. Every call may raise Failed, and over the wire Refused."""

    descriptor: PluginDescriptor

    def configure(
        self, instance: str, options: Mapping[str, str], inputs: Sequence[str] = (), output: str = ""
    ) -> ConfigureResponse:
        """Makes an instance; options are JSON by name."""
        ...

    def release(self, instance: str) -> None: ...

    def process(self, instance: str, columns: pa.RecordBatch) -> pa.RecordBatch:
        """Also raises Unread."""
        ...

    def draw(self, instance: str, fields: pa.RecordBatch, keys: np.ndarray) -> pa.RecordBatch: ...

    def update(self, instance: str, predictions: Predictions) -> State: ...

    def merge(self, instance: str, states: Sequence[State]) -> State: ...

    def compute(self, instance: str, state: State, class_names: Sequence[str]) -> dict[str, float]: ...

    def columns(self, instance: str, problem: str, result_columns: Sequence[str]) -> list[str]: ...

    def format(self, instance: str, predictions: Predictions) -> list[str] | list[bytes]: ...

    def assemble(self, instance: str, portions: Iterable[Sequence[bytes]], count: int) -> bytes: ...

    def read(self, instance: str, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]: ...

    def predict(self, rows: pa.RecordBatch, *, lines: bool = False) -> pa.RecordBatch:
        """Of a served model; also raises Unread."""
        ...


def differing(one: pa.RecordBatch, other: pa.RecordBatch, tolerance: float = ROUNDING) -> str | None:
    """Where two answers differ first, in words; None where they are the same.

    Floating-point numbers may be apart by `tolerance` times the largest of their field; all else is compared exactly.
    """
    if set(one.schema.names) != set(other.schema.names):
        return f"the fields {', '.join(one.schema.names)} and {', '.join(other.schema.names)}"
    for name in one.schema.names:
        left, right = one.column(name), other.column(name)
        if len(left) != len(right):
            return f"{len(left)} and {len(right)} values of {name}"
        if left.type == right.type and left.equals(right):
            continue
        apart = tolerance * max(_largest(left), _largest(right))
        for row, (mine, its) in enumerate(zip(left.to_pylist(), right.to_pylist(), strict=True)):
            if not alike(mine, its, apart):
                return f"{name} of row {row}: {mine} and {its}"
    return None


def _largest(column: pa.Array) -> float:
    """The largest finite amount in a field of floating-point numbers; 0 for any other field."""
    while pa.types.is_nested(column.type):
        column = column.flatten()
    if not pa.types.is_floating(column.type):
        return 0.0
    amounts = np.abs(column.to_numpy(zero_copy_only=False).astype(np.float64))
    return float(amounts[np.isfinite(amounts)].max(initial=0.0))


def alike(one: Any, other: Any, apart: float = 0.0) -> bool:
    """Whether two values are the same, numbers up to a distance; nan is nan."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(alike(a, b, apart) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other) or math.isinf(one) or math.isinf(other):
            return repr(one) == repr(other)
        return abs(one - other) <= apart
    return bool(one == other)


def unlike(one: Mapping[str, float], other: Mapping[str, float], tolerance: float = 1e-6) -> str | None:
    """Where two results of a metric differ first, in words."""
    if set(one) != set(other):
        return f"the keys {', '.join(one)} and {', '.join(other)}"
    wrong = (key for key in one if not alike(float(one[key]), float(other[key]), tolerance * max(1.0, abs(one[key]))))
    key = next(wrong, None)
    return None if key is None else f"{key}: {one[key]} and {other[key]}"


def take(rows: pa.RecordBatch, places: Sequence[int] | np.ndarray) -> pa.RecordBatch:
    """Some rows, in that order."""
    return rows.take(pa.array(np.asarray(places, np.int64)))


def joined(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Answers, one behind the other."""
    return (
        pa.Table.from_batches([part.select(parts[0].schema.names) for part in parts]).combine_chunks().to_batches()[0]
    )
