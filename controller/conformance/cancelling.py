"""Checks of calls that nobody waits for any more, and of several at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc

from deepgen.v1.plugin_service_pb2 import PutRequest

from ...kernel.wire_features import PIECE
from . import parcels
from .checks import Wrong, check
from .lasting import LONG_ENOUGH, lasting
from .load import begun, carried, far, given_back, problem, send, table
from .server import Server
from .subject import differing


@check("cancel.call", "A call that is cancelled in the middle does no harm: the next one is answered.", of="server")
def call(server: Server) -> None:
    work = lasting(server, LONG_ENOUGH, least=0.02)
    case = work.case
    before = given_back(case, send(case, carried(case, 5)))
    for pause in (0.0, 0.02, 0.1):
        under_way = begun(case, parcels.parcel(server.wire, work.rows))
        time.sleep(pause)
        under_way.cancel()
        server.wire.still_well("a call that was cancelled")
        after = given_back(case, send(case, carried(case, 5)), what="the call after one that was cancelled")
        if words := differing(before, after):
            raise Wrong(f"a call that was cancelled after {pause} s, then another", words, "the answer as before")


@check("cancel.deadline", "A call whose time is over does no harm: the next one is answered.", of="server")
def deadline(server: Server) -> None:
    work = lasting(server, LONG_ENOUGH, least=0.02)
    case = work.case
    request = far(case).first(case.main, parcels.parcel(server.wire, work.rows), None, problem(case))
    with suppress(grpc.RpcError):
        far(case).method()(request, timeout=0.02, metadata=server.wire.metadata())
    server.wire.still_well("a call whose time was over")
    given_back(case, send(case, carried(case, 5)), what="the call after one whose time was over")


@check("cancel.put", "A payload whose pieces stop coming is forgotten, and others can still be put aside.", of="server")
def put(server: Server) -> None:
    link = server.wire

    def pieces() -> Iterator[PutRequest]:
        yield PutRequest(data=b"x" * PIECE)
        yield PutRequest(data=b"y" * PIECE)
        time.sleep(0.3)
        yield PutRequest(data=b"z")

    for _ in range(3):
        under_way = link.begin(link.plugin.Put, pieces())
        time.sleep(0.1)
        under_way.cancel()
        with suppress(grpc.RpcError, grpc.FutureCancelledError):
            under_way.result()
    link.still_well("a Put that was cancelled")
    whole = b"w" * (PIECE + 1)
    if parcels.get(link, parcels.put(link, whole)) != whole:
        raise Wrong("a payload after some that were cancelled", "other bytes", "the same")


@check("cancel.get", "A payload whose reader goes away does no harm.", of="server")
def get(server: Server) -> None:
    from deepgen.v1.plugin_service_pb2 import GetRequest

    link = server.wire
    key = parcels.put(link, b"g" * (3 * PIECE))
    answers = link.plugin.Get(GetRequest(key=key), timeout=30, metadata=link.metadata())
    next(iter(answers))
    answers.cancel()  # type: ignore[no-untyped-call]
    link.still_well("a Get that was cancelled")


@check(
    "concurrent.instances",
    "Several instances are called at the same time, and each gives its own answers.",
    of="server",
)
def instances(server: Server) -> None:
    for case in server.able:
        alone = given_back(case, send(case, carried(case, 20)))
        names = [f"one of {number}" for number in range(4)]
        for name in names:
            case.configured(name)
        rows = parcels.batch(table(case, 20))
        method, link = far(case).method(), server.wire

        def ask(name: str) -> None:
            request = far(case).first(case.named(name), parcels.parcel(link, rows), None, problem(case))  # noqa: B023
            for _ in range(5):
                made = given_back(case, link.ask(method, request))  # noqa: B023
                if words := differing(alone, made):  # noqa: B023
                    raise Wrong(f"{case.title}: four instances at once", words, "the answer as alone")  # noqa: B023

        with ThreadPoolExecutor(len(names)) as pool:
            for done in [pool.submit(ask, name) for name in names]:
                done.result()
        for name in names:
            case.released(name)


@check("concurrent.one_instance", "Two calls of one instance at the same time are both answered rightly.", of="server")
def one_instance(server: Server) -> None:
    for case in server.able:
        alone = given_back(case, send(case, carried(case, 50)))
        for under_way in [begun(case, carried(case, 50)) for _ in range(8)]:
            if words := differing(alone, given_back(case, under_way.result())):
                raise Wrong(f"{case.title}: eight calls of one instance at once", words, "the answer as alone")
