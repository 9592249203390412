"""Rows of features in Arrow batches, in memory or memory-mapped, and how some of them are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .contracts import Field
from .processing import KEPT


class Table:
    """Rows in order, in chunks that are opened on first use."""

    def __init__(
        self, fields: Mapping[str, Field], sizes: Sequence[int], load: Callable[[int], pa.RecordBatch]
    ) -> None:
        self.fields: dict[str, Field] = dict(fields)
        """The fields that there are."""
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._load = load
        self._open: dict[int, _Chunk] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray, names: Sequence[str] | None = None) -> dict[str, Any]:
        """The fields of some rows.

        Returns:
            scalar: an array [rows]; fixed: an array [rows, values]; ragged: a list of arrays; string: a list of str.
        """
        places = self._places(rows)
        return {name: self._values(self.fields[name], places) for name in (self.fields if names is None else names)}

    def columns(self, names: Sequence[str], rows: np.ndarray) -> dict[str, list[str]]:
        """The text of columns that were kept, for some rows."""
        places = self._places(rows)
        return {name: [chunk.texts(KEPT + name)[row].as_py() for chunk, row in places] for name in names}

    def _places(self, rows: np.ndarray) -> list[tuple[_Chunk, int]]:
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        inside = rows - self._starts[chunks]
        return [(self._chunk(chunk), row) for chunk, row in zip(chunks.tolist(), inside.tolist(), strict=True)]

    def _chunk(self, index: int) -> _Chunk:
        if index not in self._open:
            self._open[index] = _Chunk(self._load(index))
        return self._open[index]

    def _values(self, field: Field, places: Sequence[tuple[_Chunk, int]]) -> Any:
        if field.dtype == "string":
            return [chunk.texts(field.name)[row].as_py() for chunk, row in places]
        if field.shape == "scalar":
            return np.array([chunk.numbers(field.name)[row] for chunk, row in places], field.dtype)
        rows = []
        for chunk, row in places:
            values, offsets = chunk.lists(field.name)
            rows.append(values[offsets[row] : offsets[row + 1]])
        return rows if field.shape == "ragged" else np.array(rows, field.dtype)


class _Chunk:
    """Views without copies of the columns of one record batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._views: dict[str, Any] = {}

    def texts(self, name: str) -> Any:
        if name not in self._views:
            self._views[name] = self._batch.column(name)
        return self._views[name]

    def numbers(self, name: str) -> Any:
        if name not in self._views:
            self._views[name] = self._batch.column(name).to_numpy(zero_copy_only=True)
        return self._views[name]

    def lists(self, name: str) -> tuple[Any, Any]:
        if name not in self._views:
            column = self._batch.column(name)
            self._views[name] = column.values.to_numpy(zero_copy_only=True), column.offsets.to_numpy()
        found: tuple[Any, Any] = self._views[name]
        return found
