"""Rows of any size for the call that takes rows, and that call sent as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from deepgen.v1.payload_pb2 import Payload, SharedMemory

from ...kernel.payload import from_predictions
from . import parcels
from .answers import predictions
from .case import Case
from .checks import Wrong
from .far import Far
from .regions import Region
from .subject import take
from .wire import Wire


def far(case: Case) -> Far:
    """The plugin at the other end."""
    assert isinstance(case.subject, Far), "a check over the wire"
    return case.subject


def wire(case: Case) -> Wire:
    """The connection to it."""
    return far(case).at.wire


def problem(case: Case) -> str:
    """The first that it fits."""
    return next(iter(case.problems), "")


def table(case: Case, rows: int, first: int = 0) -> pa.RecordBatch:
    """So many rows that it can read, from a row of them on."""
    numbers = np.arange(first, first + rows)
    if case.kind == "processor":
        return take(case.rows, numbers % case.rows.num_rows)
    return from_predictions(predictions(problem(case), numbers))


def of_size(case: Case, size: int) -> pa.RecordBatch:
    """Rows that take about so many bytes: long ones, where it reads such."""
    if case.kind == "processor" and case.wide is not None:
        some = case.wide
        return take(some, np.arange(size // max(some.nbytes // some.num_rows, 1) + 1) % some.num_rows)
    some_bytes = len(parcels.batch(table(case, 64))), len(parcels.batch(table(case, 128)))
    each = max((some_bytes[1] - some_bytes[0]) / 64, 1.0)
    return table(case, int(size / each) + 128)


def carried(case: Case, rows: int, first: int = 0) -> Payload:
    """Rows in the message."""
    return Payload(arrow=parcels.batch(table(case, rows, first)))


def send(case: Case, payload: Payload, room: SharedMemory | None = None, *, seconds: float = 120) -> Any:
    """The answer to Process, Update or Format; it may be a failure."""
    request = far(case).first(case.main, payload, room, problem(case))
    return wire(case).ask(far(case).method(), request, seconds=seconds)


def begun(case: Case, payload: Payload, instance: str = "") -> Any:
    """The same under way."""
    request = far(case).first(instance or case.main, payload, None, problem(case))
    return wire(case).begin(far(case).method(), request)


def given_back(case: Case, answer: Any, room: Region | None = None, what: str = "a call") -> pa.RecordBatch:
    """The rows of an answer.

    Raises:
        Wrong: it has none.
    """
    place = answer.WhichOneof("result")
    if place not in ("fields", "state", "rows"):
        words = getattr(answer, place) if place else "neither rows nor a failure"
        raise Wrong(what, f"{place}: {words}", "rows")
    return parcels.opened(wire(case), getattr(answer, place), room, what)
