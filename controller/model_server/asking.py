"""One request from its payload to the model's answer: what it asks is checked, queued and joined again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc.aio
import pyarrow as pa

from ...kernel.contracts import Predictions
from ...kernel.errors import DataError
from ...kernel.portions import joined
from ...kernel.rows import Reject
from ..refusals import Refusal, invalid
from .batching import Batcher, Closed
from .metrics import Metrics
from .model import ServedModel
from .waiting import Full, Late

Context = grpc.aio.ServicerContext[Any, Any]
CHECKED_INLINE = 4096
"""Rows that are looked at between two calls; more would hold up the others, and are looked at in a thread."""


@dataclass(frozen=True)
class Answered:
    """All rows of a request."""

    predictions: Predictions | None
    """Of the good rows; None where there is none."""
    bad: Sequence[Reject]
    """In the order of the rows."""


class Asking:
    """Asks the model, for all services."""

    def __init__(self, model: ServedModel, batcher: Batcher, metrics: Metrics) -> None:
        self.model, self._batcher, self._metrics = model, batcher, metrics

    async def ask(self, rows: pa.RecordBatch, field: str, context: Context, *, patient: bool = False) -> Answered:
        """The answers to the rows of a payload; when the call is cancelled, its rows that still wait are dropped.

        Args:
            rows: at least the columns of the model.
            field: where in the request they were, for refusals.
            context: of the call, whose deadline is that of the rows.
            patient: wait where too many rows are waiting, and ask for a large request in portions.

        Raises:
            Refusal: a column is missing or no text, there are no rows, or too many are waiting.
            Exception: whatever the model raised.
        """
        begin = time.monotonic()
        look = self._texts
        columns, numbers, bad = (
            look(rows, field) if rows.num_rows <= CHECKED_INLINE else await asyncio.to_thread(look, rows, field)
        )
        left = context.time_remaining()
        expires = begin + left if left is not None else float("inf")
        parts: list[tuple[int, Any]] = []
        step = self._batcher.portion if patient else max(len(numbers), 1)
        for start in range(0, len(numbers), step):
            some = [column.slice(start, step) for column in columns]
            try:
                while patient and not self._batcher.has_room(len(some[0])):
                    await asyncio.wrap_future(self._batcher.next_batch())
                answers = await asyncio.wrap_future(self._batcher.ask(some, len(some[0]), expires))
                parts += [(start, answer) for answer in answers]
            except Full as error:
                raise Refusal("RESOURCE_EXHAUSTED", str(error), reason="WAITING") from None
            except Closed as error:
                raise Refusal("UNAVAILABLE", str(error), reason="STOPPING") from None
            except Late as error:
                raise Refusal("DEADLINE_EXCEEDED", str(error)) from None
        bad += [replace(reject, row=int(numbers[start + reject.row])) for start, part in parts for reject in part.bad]
        self._metrics.answered(0 if bad else rows.num_rows, time.monotonic() - begin)
        good = [part.predictions for _, part in parts if part.predictions is not None]
        whole = good[0] if len(good) == 1 else joined(_renumbered(good)) if good else None
        return Answered(whole, sorted(bad, key=lambda reject: reject.row))

    def _texts(self, rows: pa.RecordBatch, field: str) -> tuple[list[pa.Array], Any, list[Reject]]:
        """The columns of the model as text, the places of these rows in the request, and rows without a value."""
        if not rows.num_rows:
            raise invalid(field, f"{field} has no rows; send one at least")
        missing = [name for name in self.model.columns if name not in rows.schema.names]
        if missing:
            texts = [f"there is no column '{name}'; {self.model.name} reads {self._wanted}" for name in missing]
            paths = [f"{field}.{name}" for name in missing]
            raise Refusal("INVALID_ARGUMENT", texts[0], fields=list(zip(paths, texts, strict=True)))
        if len(set(rows.schema.names)) < len(rows.schema.names):
            raise invalid(field, f"two columns of {field} have the same name")
        try:
            block = self.model.predictor.texts_of(rows)
        except DataError as error:
            raise invalid(field, str(error)) from None
        return block.columns, block.rows, block.rejects

    @property
    def _wanted(self) -> str:
        return ", ".join(self.model.columns)


def _renumbered(parts: Sequence[Predictions]) -> list[Predictions]:
    """The parts of a request with row numbers that go on from part to part."""
    made, begin = [], 0
    for part in parts:
        made.append(replace(part, rows=range_of(begin, len(part.rows))))
        begin += len(part.rows)
    return made


def range_of(begin: int, count: int) -> Any:
    """[count] int64 from `begin` on."""
    import numpy as np

    return np.arange(begin, begin + count)
