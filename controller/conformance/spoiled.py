"""Checks of payloads that are too large, or no rows at all: they are refused, and no harm is done."""

from __future__ import annotations

import os
from collections.abc import Callable

import pyarrow as pa

from deepgen.v1.payload_pb2 import Payload, SharedMemory

from ...kernel.wire_features import LARGEST_MESSAGE
from . import parcels
from .case import Case
from .checks import Skipped, Wrong, check, equal, one_of
from .load import carried, given_back, of_size, send, table
from .server import Server
from .wire import MIB, Refused

_MISTAKES = ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE")
"""What says that a request is wrong."""


@check(
    "payload.oversize",
    "A message above the limit is refused with RESOURCE_EXHAUSTED, and no harm is done.",
    of="server",
)
def oversize(server: Server) -> None:
    case = server.some
    try:
        send(case, Payload(arrow=bytes(LARGEST_MESSAGE + MIB)))
    except Refused as refused:
        equal("a message of 65 MiB", refused.code, "RESOURCE_EXHAUSTED")
    else:
        raise Wrong("a message of 65 MiB", "an answer", "RESOURCE_EXHAUSTED")
    server.wire.still_well("a message that was too large")
    given_back(case, send(case, carried(case, 3)), what="the next call")


def _harmless(server: Server, make: Callable[[Case], Payload], what: str) -> None:
    """A failure in the answer, or a status that says the request is wrong; the next call is answered."""
    for case in server.takers:
        given = f"{case.title}: {what}"
        try:
            answer = send(case, make(case))
        except Refused as refused:
            one_of(given, refused.code, _MISTAKES)
        else:
            if answer.WhichOneof("result") != "failure":
                raise Wrong(given, f"{answer.WhichOneof('result')}", "a failure, or INVALID_ARGUMENT")
        _unharmed(server, case, given)


def _unharmed(server: Server, case: Case, after: str) -> None:
    server.wire.still_well(after)
    given_back(case, send(case, carried(case, 3)), what=f"the call after {after}")


@check("payload.largest", "A message of nearly 64 MiB is taken.", of="server")
def largest(server: Server) -> None:
    if server.quick:
        raise Skipped("60 MB in a message; left out by --quick")
    case = server.some
    rows = of_size(case, 58 * MIB)
    given_back(case, send(case, Payload(arrow=parcels.batch(rows)), seconds=300), what=f"{rows.num_rows} rows")


@check("payload.garbage", "Bytes that are no Arrow stream are refused, and no harm is done.", of="server")
def garbage(server: Server) -> None:
    _harmless(server, lambda case: Payload(arrow=os.urandom(5000)), "5000 random bytes")
    _harmless(
        server, lambda case: Payload(arrow=b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 8), "a message of endless length"
    )


@check("payload.truncated", "An Arrow stream that is cut is refused, and no harm is done.", of="server")
def truncated(server: Server) -> None:
    _harmless(server, lambda case: Payload(arrow=parcels.batch(table(case, 50))[:-200]), "a stream cut short")


@check(
    "payload.nowhere",
    "A payload that is in no place, or where nothing is, is refused, and no harm is done.",
    of="server",
)
def nowhere(server: Server) -> None:
    _harmless(server, lambda case: Payload(), "a payload in no place")
    _harmless(server, lambda case: Payload(parts="no-such-key"), "a key that it did not give")
    gone = SharedMemory(path="/proc/0/fd/99", offset=0, length=2 * MIB)
    _harmless(server, lambda case: Payload(shared=gone), "memory that is not there")


@check("payload.wrong_columns", "Numbers where texts belong, or too few columns, do no harm.", of="server")
def wrong_columns(server: Server) -> None:
    for case in server.takers:
        numbers = pa.RecordBatch.from_pydict({name: pa.array([1, 2, 3]) for name in case.inputs or ("row", "query")})
        for what, rows in (("numbers where texts belong", numbers), ("no column", numbers.select([]))):
            given = f"{case.title}: {what}"
            try:
                send(case, Payload(arrow=parcels.batch(rows)))
            except Refused as refused:
                one_of(given, refused.code, _MISTAKES)
            _unharmed(server, case, given)
