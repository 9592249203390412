"""Checks that nothing is kept of the batches that were worked on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deepgen.v1.plugin_service_pb2 import ProbeRequest

from ..processes import descendants
from . import parcels
from .answers import predictions
from .case import Case
from .checks import Skipped, Wrong, check
from .load import carried, far, problem, send
from .server import Server
from .subject import take
from .wire import MIB

BATCHES, QUICK, ROWS = 10_000, 120, 64
ROOM = 16 * MIB
"""How much a process may grow after it has warmed up: allocators keep some of what they were given."""


def resident(pid: int) -> int:
    """Bytes in memory of a process and of those that it has started: the command may be a script around the plugin."""
    pages = 0
    for process in descendants(pid):
        with suppress(OSError):  # it has ended meanwhile
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _growth(pid: int, batches: int, work: Callable[[], object]) -> int:
    """By how much the process is larger after so many batches than after a tenth of them."""
    for _ in range(max(batches // 10, 30)):
        work()
    before = resident(pid)
    for _ in range(batches):
        work()
    return resident(pid) - before


def _bounded(given: str, grown: int) -> None:
    if grown > ROOM:
        raise Wrong(given, f"{grown / MIB:.0f} MiB more memory", f"at most {ROOM // MIB} MiB after it has warmed up")


@check("leak.batches", "After 10,000 batches (120 with --quick) it has no more memory than after 1,000.", of="plugin")
def batches(case: Case) -> None:
    count = QUICK if case.quick else BATCHES
    if case.kind in ("model", "trainer"):
        raise Skipped("a model's memory is its own")
    if hasattr(case.subject, "at"):
        server = far(case).at
        assert isinstance(server, Server)
        if server.pid is None:
            raise Skipped("its process is not known")
        payload = carried(case, ROWS)
        request = far(case).first(case.main, payload, None, problem(case))
        method = far(case).method()
        grown = _growth(server.pid, count, lambda: server.wire.ask(method, request))
    elif case.kind == "processor":
        instance, rows = case.main, take(case.rows, [row % case.rows.num_rows for row in range(ROWS)])
        grown = _growth(os.getpid(), count, lambda: case.subject.process(instance, rows))
    else:
        instance, given = case.main, predictions(problem(case), range(ROWS))
        call = case.subject.update if case.kind == "metric" else case.subject.format
        grown = _growth(os.getpid(), count, lambda: call(instance, given))
    _bounded(f"{count} batches of {ROWS} rows", grown)


@check("leak.instances", "Instances that were made and released leave nothing behind.", of="server")
def instances(server: Server) -> None:
    if server.pid is None:
        raise Skipped("its process is not known")
    case = server.some

    def work() -> None:
        case.configured("passing")
        case.released("passing")

    count = 100 if server.quick else 2000
    _bounded(f"{count} instances made and released", _growth(server.pid, count, work))


@check("leak.parts", "What was put aside and taken leaves nothing behind.", of="server")
def parts(server: Server) -> None:
    if server.pid is None:
        raise Skipped("its process is not known")
    link, data = server.wire, b"p" * MIB
    count = 60 if server.quick else 1000
    _bounded(
        f"{count} MiB put aside and taken",
        _growth(server.pid, count, lambda: parcels.get(link, parcels.put(link, data))),
    )


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
    _bounded(f"{count} calls that were refused", _growth(server.pid, count, lambda: link.refusal(method, request)))
    link.ask(link.plugin.Probe, ProbeRequest())
    send(case, carried(case, 2))
