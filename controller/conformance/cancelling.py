"""Checks of calls that nobody waits for any more, and of several at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pyarrow as pa

from deepgen.v1.outputter_service_pb2 import AssembleRequest
from deepgen.v1.payload_pb2 import Payload
from deepgen.v1.plugin_service_pb2 import GetRequest, PutRequest

from ...kernel.wire_features import PIECE
from . import parcels
from .answers import predictions
from .case import Case
from .checks import Wrong, check
from .lasting import LONG_ENOUGH, lasting
from .load import begun, carried, far, given_back, problem, send, wire
from .outputters import format_all
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
    for pause in (0.0, 0.2):
        time.sleep(pause)
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


@check("cancel.assemble", "Rows of a file that stop coming do no harm: the file is made as before.",
       of="outputter", needs_wire=True, ability="assemble")  # fmt: skip
def assemble(case: Case) -> None:
    link = wire(case)
    rows = format_all(case, predictions(problem(case), range(5)))
    portion = Payload(arrow=parcels.batch(pa.RecordBatch.from_pydict({"row": pa.array(rows, pa.binary())})))
    whole = case.subject.assemble(case.main, [rows], len(rows))

    def requests() -> Iterator[AssembleRequest]:
        yield AssembleRequest(instance=case.main, count=10)
        yield AssembleRequest(rows=portion)
        time.sleep(0.3)
        yield AssembleRequest(rows=portion)

    for _ in range(3):
        answers: Any = link.outputter.Assemble(requests(), timeout=30, metadata=link.metadata())
        time.sleep(0.1)
        answers.cancel()
        link.still_well("a file that was cancelled")
        if case.subject.assemble(case.main, [rows], len(rows)) != whole:
            raise Wrong("a file after one that was cancelled", "other bytes", "the same")


@check("cancel.get", "A payload whose reader goes away does no harm.", of="server")
def get(server: Server) -> None:
    link = server.wire
    key = parcels.put(link, b"g" * (3 * PIECE))
    answers = link.plugin.Get(GetRequest(key=key), timeout=30, metadata=link.metadata())
    next(iter(answers))
    answers.cancel()  # type: ignore[no-untyped-call]
    time.sleep(0.1)
    link.still_well("a Get that was cancelled")
    if parcels.get(link, parcels.put(link, b"next")) != b"next":
        raise Wrong("a payload after one whose reader went away", "other bytes", "the same")
