"""Checks that nothing is kept of the batches that were worked on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from deepgen.v1.plugin_service_pb2 import ProbeRequest

from ..processes import descendants
from . import parcels
from .answers import predictions
from .case import Case
from .checks import Skipped, Wrong, check
from .load import carried, far, problem, send, wire
from .server import NONE, Server
from .subject import take
from .wire import MIB

BATCHES, ROWS = 10_000, 64
QUICK_ROWS = 2
"""Rows of a batch with --quick: what is kept of a batch, and not of its rows, is seen in small ones as well."""
ROOM = 16 * MIB
"""How much larger a process may become in half of the work: allocators keep some of what they were given."""
STEPS = 10
"""How often it is looked at."""


def resident(pid: int) -> int:
    """Bytes in memory of a process and of those that it has started: the command may be a script around the plugin."""
    pages = 0
    for process in descendants(pid):
        with suppress(OSError):  # it has ended meanwhile
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _bounded(pid: int, times: int, what: str, work: Callable[[], object]) -> None:
    """Refuses a process that grows and grows: in the second half of the work, its least memory is above the first's.

    What is loaded on first use, and a heap that finds its size, make it larger at first; garbage that waits to be
    collected makes it larger now and then. What leaks very much is not brought to its end.
    """
    seen: list[int] = []
    _repeat(work, max(times // STEPS, 30))
    while len(seen) < STEPS and (not seen or seen[-1] - seen[0] < 4 * ROOM):
        _repeat(work, times // STEPS)
        seen.append(resident(pid))
    half = min(STEPS // 2, len(seen) - 1)
    grown = min(seen[half:]) - min(seen[:half])
    if grown > ROOM:
        right = f"at most {ROOM // MIB} MiB in half of them"
        raise Wrong(f"{len(seen) * times // STEPS} {what}", f"{grown / MIB:.0f} MiB more memory", right)


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


@check("leak.batches", "Nothing is kept of 10,000 batches.", of="plugin")
def batches(case: Case) -> None:
    rows = QUICK_ROWS if case.quick else ROWS
    if case.kind in ("model", "trainer"):
        raise Skipped("a model's memory is its own")
    work: Callable[[], object]
    if hasattr(case.subject, "at"):
        server = far(case).at
        assert isinstance(server, Server)
        if server.pid is None:
            raise Skipped("its process is not known")
        if case.quick:
            raise Skipped("with --quick the plugins of a server have 10,000 batches together (leak.calls)")
        pid, work = server.pid, _call(case, rows)
    elif case.kind == "processor":
        pid, columns = os.getpid(), take(case.rows, [row % case.rows.num_rows for row in range(rows)])
        work = partial(case.subject.process, case.main, columns)
    else:
        pid, call = os.getpid(), case.subject.update if case.kind == "metric" else case.subject.format
        work = partial(call, case.main, predictions(problem(case), range(rows)))
    _bounded(pid, BATCHES, f"batches of {rows} rows", work)


@check("leak.calls", "Nothing is kept of 10,000 batches, sent to its plugins in turn.", of="server")
def calls(server: Server) -> None:
    if server.pid is None:
        raise Skipped("its process is not known")
    work = [_call(case, QUICK_ROWS) for case in server.ready]
    if not work:
        raise Skipped(NONE)
    turns = itertools.cycle(work)
    _bounded(server.pid, BATCHES, f"batches of {QUICK_ROWS} rows", lambda: next(turns)())


def _call(case: Case, rows: int) -> Callable[[], object]:
    """Sends a plugin at the other end the same rows each time."""
    request = far(case).first(case.main, carried(case, rows), None, problem(case))
    return partial(wire(case).ask, far(case).method(), request)


@check("leak.instances", "Instances that were made and released leave nothing behind.", of="server")
def instances(server: Server) -> None:
    if server.pid is None:
        raise Skipped("its process is not known")
    case = server.some

    def work() -> None:
        case.configured("passing")
        case.released("passing")

    count = 100 if server.quick else 2000
    _bounded(server.pid, count, "instances made and released", work)


@check("leak.parts", "What was put aside and taken leaves nothing behind.", of="server")
def parts(server: Server) -> None:
    if server.pid is None:
        raise Skipped("its process is not known")
    link, data = server.wire, b"p" * MIB
    count = 60 if server.quick else 1000
    _bounded(server.pid, count, "MiB put aside and taken", lambda: parcels.get(link, parcels.put(link, data)))


@check("leak.refusals", "Calls that are refused leave nothing behind.", of="server")
def refusals(server: Server) -> None:
    if server.pid is None:
        raise Skipped("its process is not known")
    case = server.some
    from deepgen.v1.payload_pb2 import Payload

    bad = Payload(arrow=b"\x01" * 65536)
    link = server.wire
    request = far(case).first(case.main, bad, None, problem(case))
    method = far(case).method()
    count = 300 if server.quick else 3000
    _bounded(server.pid, count, "calls that were refused", lambda: link.refusal(method, request))
    link.ask(link.plugin.Probe, ProbeRequest())
    send(case, carried(case, 2))
