"""Calls that last long enough to see what else happens meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass

from . import parcels
from .case import Case
from .checks import Skipped
from .far import Far
from .load import carried, of_size, send, wire
from .server import Server
from .wire import MIB, Wire

LONG_ENOUGH = 0.25
"""Seconds."""
MOST = 24 * MIB
"""Bytes of a call."""


@dataclass(frozen=True)
class Work:
    """Rows on which a plugin works for a while."""

    case: Case
    rows: bytes
    seconds: float


def lasting(server: Server, seconds: float, least: float | None = None, most: int = MOST) -> Work:
    """Rows that the slowest of its plugins works on for so long, or the most that a message takes.

    Raises:
        Skipped: it is done in less than `least`, by default `seconds`.
    """
    if server.slow is None:
        tried = [_timed(case, MIB) for case in server.takers]
        server.slow = max(tried, key=lambda work: work.seconds)
    work: Work = server.slow
    while work.seconds < seconds and len(work.rows) < most:
        work = _timed(work.case, min(most, int(len(work.rows) * max(1.5, min(4.0, 1.5 * seconds / work.seconds)))))
    if work.seconds < (seconds if least is None else least):
        took = f"{len(work.rows) // MIB} MiB in {work.seconds:.2f} s"
        raise Skipped(f"it is done with {took}, so nothing is seen beside it")
    return work


def _timed(case: Case, size: int) -> Work:
    rows = parcels.batch(of_size(case, size))
    payload = parcels.parcel(wire(case), rows)
    send(case, carried(case, 1))  # what is loaded on first use is there
    begin = time.monotonic()
    send(case, payload)
    return Work(case, rows, time.monotonic() - begin)


class _One:
    """A connection that stays what it is."""

    def __init__(self, link: Wire, features: frozenset[str]) -> None:
        self.wire, self.features = link, features


def elsewhere(case: Case, link: Wire, features: frozenset[str]) -> Case:
    """The same plugin in another process."""
    return Case(Far(_One(link, features), case.descriptor), case.options, case.quick)
