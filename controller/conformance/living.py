"""Checks of a plugin's life: it answers while it works, ends when it is asked to, and when its host is gone."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import Any

import grpc

from deepgen.v1.plugin_service_pb2 import ProbeRequest, ShutdownRequest

from . import parcels
from .checks import Skipped, Wrong, check, equal
from .lasting import LONG_ENOUGH, Work, elsewhere, lasting
from .load import begun, of_size, send
from .program import Program
from .server import Server
from .wire import MIB, Refused, Wire

SECONDS_TO_END = 10.0
AT_ONCE = 2.0
"""Seconds in which a probe is answered; a program of one thread may first finish what it is at."""


@check("life.start", "It starts, says that it listens, and answers a handshake.", of="server")
def start(server: Server) -> None:
    server.wire.still_well("it was started")
    if not server.plugins:
        raise Wrong("Describe", "no plugin", "at least one")


@check("life.probe", "Probe says that it is ready, each time.", of="server")
def probe(server: Server) -> None:
    for _ in range(3):
        answer = server.wire.ask(server.wire.plugin.Probe, ProbeRequest())
        if not answer.ready:
            raise Wrong("Probe", f"not ready: {answer.why}", "ready")


@check("life.probe_while_working", "Probe is answered at once, also while a call is worked on.", of="server")
def probe_while_working(server: Server) -> None:
    work = lasting(server, 1.5 * AT_ONCE, least=0.0, most=4 * MIB)
    begin = last = time.monotonic()
    call, slowest, answered = begun(work.case, parcels.parcel(server.wire, work.rows)), 0.0, 0
    while not call.done():
        server.wire.ask(server.wire.plugin.Probe, ProbeRequest())
        answered += not call.done()
        slowest, last = max(slowest, time.monotonic() - last), time.monotonic()
        time.sleep(0.01)
    call.result()
    if not answered and slowest < AT_ONCE:
        raise Skipped(f"it is done with {len(work.rows) / MIB:.1f} MiB in {slowest:.1f} s, before a probe can be late")
    if slowest > AT_ONCE:
        given = f"Probe while it works on {len(work.rows) / MIB:.1f} MiB for {time.monotonic() - begin:.1f} s"
        raise Wrong(given, f"an answer after {slowest:.1f} s", f"an answer at once, within {AT_ONCE:.0f} s")


@check("life.restart", "It starts again and gives the same answers as before.", of="server")
def restart(server: Server) -> None:
    case = server.some
    first = case.configured()
    with server.another() as (_, link):
        there = elsewhere(case, link, server.features)
        equal("Configure of another process", there.configured(), first)


@check("life.token_of_its_own", "Each process takes its own token only.", of="server")
def token_of_its_own(server: Server) -> None:
    mine = server.wire.token
    with server.another() as (_, link):
        refused = link.refusal(link.plugin.Probe, ProbeRequest(), token=mine)
        equal("the token of another process", refused.code if refused else "an answer", "UNAUTHENTICATED")


@check("life.shutdown", "Shutdown is answered, and the process ends with exit code 0.", of="server")
def shutdown(server: Server) -> None:
    with server.another() as (program, link):
        link.ask(link.plugin.Shutdown, ShutdownRequest(), seconds=20)
        _ends(program, "Shutdown")


@check("life.shutdown_repeated", "Shutdown again, while it ends, changes nothing.", of="server")
def shutdown_repeated(server: Server) -> None:
    with server.another() as (program, link):
        calls = [link.begin(link.plugin.Shutdown, ShutdownRequest(), seconds=20) for _ in range(3)]
        answered = 0
        for call in calls:
            try:
                call.result()
                answered += 1
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise Wrong("Shutdown three times", Refused(error), "an answer, or the end") from None
        if not answered:
            raise Wrong("Shutdown three times", "no answer", "at least one")
        _ends(program, "Shutdown three times")


@check("life.shutdown_finishes", "Shutdown lets it finish what it is working on.", of="server")
def shutdown_finishes(server: Server) -> None:
    work = lasting(server, LONG_ENOUGH)
    with server.another() as (program, link):
        call = _working(server, link, work)
        if call.done():
            raise Skipped("it was done before it could be told to end")
        with suppress(Refused):
            link.ask(link.plugin.Shutdown, ShutdownRequest(), seconds=20)
        try:
            answer = call.result()
        except grpc.RpcError as error:
            raise Wrong("Shutdown while a call is worked on", Refused(error), "the answer to that call") from None
        if answer.WhichOneof("result") in (None, "failure"):
            raise Wrong("Shutdown while a call is worked on", answer.WhichOneof("result"), "the answer to that call")
        _ends(program, "Shutdown while a call is worked on")


@check("life.sigterm", "SIGTERM ends it as Shutdown does, with exit code 0.", of="server")
def sigterm(server: Server) -> None:
    with server.another() as (program, _):
        program.signal(signal.SIGTERM)
        _ends(program, "SIGTERM")


@check("life.host_gone", "When its host's descriptor closes, it ends.", of="server")
def host_gone(server: Server) -> None:
    with server.another() as (program, _):
        _gone(program, "the descriptor closed")


@check("life.host_gone_while_working", "When its host's descriptor closes, it ends, also in the middle of a call.",
       of="server")  # fmt: skip
def host_gone_while_working(server: Server) -> None:
    work = lasting(server, LONG_ENOUGH)
    with server.another() as (program, link):
        call = _working(server, link, work)
        _gone(program, "the descriptor closed while a call is worked on")
        with suppress(grpc.RpcError):
            call.result()


def _working(server: Server, link: Wire, work: Work) -> Any:
    """A call that another process is in the middle of."""
    there = elsewhere(work.case, link, server.features)
    send(there, parcels.parcel(link, parcels.batch(of_size(there, 1000))))  # what is loaded on first use is there
    call = begun(there, parcels.parcel(link, work.rows))
    time.sleep(LONG_ENOUGH / 4)
    return call


def _gone(program: Program, given: str) -> None:
    begin = program.let_go()
    if program.code(SECONDS_TO_END) is None:
        raise Wrong(given, f"it still runs after {time.monotonic() - begin:.0f} s", "its end, at once")


def _ends(program: Program, given: str) -> None:
    code = program.code(SECONDS_TO_END)
    if code is None:
        raise Wrong(given, f"it still runs after {SECONDS_TO_END:.0f} s", "its end, with exit code 0")
    equal(given, f"exit code {code}", "exit code 0")
