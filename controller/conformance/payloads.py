"""Checks of how rows travel: in the message, in shared memory, in parts; and of bytes that are no rows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pyarrow as pa

from deepgen.v1.payload_pb2 import Payload
from deepgen.v1.plugin_service_pb2 import GetRequest, PutRequest

from ...kernel.wire_features import SHARED_MEMORY
from . import parcels
from .case import Case
from .checks import Skipped, Wrong, check, equal
from .load import carried, given_back, of_size, send, table, wire
from .regions import Region
from .server import Server
from .subject import differing
from .wire import MIB, Refused


def _same(case: Case, rows: pa.RecordBatch, payload: Payload, way: str) -> None:
    inline = given_back(case, send(case, parcels.parcel(wire(case), parcels.batch(rows))), what="rows in the message")
    other = given_back(case, send(case, payload), what=way)
    if words := differing(inline, other):
        raise Wrong(f"{rows.num_rows} rows in the message and {way}", words, "the same answer")


@check("payload.several_batches", "An Arrow stream of several record batches, one empty, is read as one.", of="server")
def several_batches(server: Server) -> None:
    for case in server.takers:
        rows = table(case, 12)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            for part in (rows.slice(0, 5), rows.slice(5, 0), rows.slice(5, 1), rows.slice(6)):
                stream.write_batch(part)
        _same(case, rows, Payload(arrow=sink.getvalue().to_pybytes()), f"{case.title}: in four batches")


@check("payload.shared", "Rows in shared memory give what rows in the message give.", of="server")
def shared(server: Server) -> None:
    _needs_memory(server)
    for case in server.takers:
        rows = of_size(case, 2 * MIB)
        data = parcels.batch(rows)
        with Region(len(data) + 4096, b"\xaa") as region:
            region.bytes[1024 : 1024 + len(data)] = data
            _same(case, rows, Payload(shared=region.part(1024, len(data))), f"{case.title}: in shared memory")
            if region.bytes[: len(data) + 4096] != b"\xaa" * 1024 + data + b"\xaa" * 3072:
                raise Wrong("rows in shared memory", "other bytes in it afterwards", "only room is written to")


@check("payload.room", "A large answer goes into the room that is given, and nothing beside it is written.",
       of="server")  # fmt: skip
def room(server: Server) -> None:
    _needs_memory(server)
    for case in server.takers:
        rows = of_size(case, 3 * MIB)
        inline = given_back(case, send(case, parcels.parcel(wire(case), parcels.batch(rows))))
        for size, fits in ((8 * len(parcels.batch(inline)), True), (16, False)):
            with Region(4096 + size + 4096, b"\xbb") as region:
                sent = parcels.parcel(wire(case), parcels.batch(rows))
                answer = send(case, sent, region.part(4096, size))
                what = f"{case.title}: room of {size} bytes"
                made = given_back(case, answer, region, what)
                if words := differing(inline, made):
                    raise Wrong(what, words, "the answer as without room")
                place = getattr(answer, answer.WhichOneof("result"))
                taken = place.WhichOneof("place") == "shared"
                if taken and not fits:
                    raise Wrong(what, "the answer in shared memory", "in the message, as it does not fit")
                if region.bytes[:4096] + region.bytes[4096 + size :] != b"\xbb" * 8192:
                    raise Wrong(what, "bytes beside it were written", "only those of the room")


def _needs_memory(server: Server) -> None:
    if SHARED_MEMORY not in server.features:
        raise Skipped(f"it has not {SHARED_MEMORY}")


@check("payload.parts", "Rows that were put aside in pieces give what rows in the message give.", of="server")
def parts(server: Server) -> None:
    for case in server.takers:
        rows = of_size(case, 5 * MIB)
        key = parcels.put(wire(case), parcels.batch(rows))
        _same(case, rows, Payload(parts=key), f"{case.title}: in pieces of 4 MiB")


@check("payload.parts_slow", "Pieces that come slowly arrive whole, and calls beside them are answered meanwhile.",
       of="server")  # fmt: skip
def parts_slow(server: Server) -> None:
    link, data = server.wire, os.urandom(6 * 1024)

    def pieces() -> Iterator[PutRequest]:
        for begin in range(0, len(data), 1024):
            time.sleep(0.2)
            yield PutRequest(data=data[begin : begin + 1024])

    under_way = link.begin(link.plugin.Put, pieces())
    link.still_well("pieces that come slowly have begun")
    for case in server.able:
        given_back(case, send(case, carried(case, 3)), what=f"{case.title}, while pieces come slowly")
    if parcels.get(link, under_way.result().key) != data:
        raise Wrong("6 pieces, one in 0.2 s", "other bytes", "the same")


@check("payload.parts_large", "More than a message can hold goes there and back in pieces.", of="server")
def partsof_size(server: Server) -> None:
    if server.quick:
        raise Skipped("70 MB there and back; left out by --quick")
    case = server.some
    rows = of_size(case, 70 * MIB)
    made = given_back(case, send(case, Payload(parts=parcels.put(wire(case), parcels.batch(rows))), seconds=300))
    some = given_back(case, send(case, Payload(arrow=parcels.batch(rows.slice(0, 100)))))
    if case.kind == "processor":
        equal(f"{rows.num_rows} rows in pieces", made.num_rows, rows.num_rows)
        if words := differing(some, made.slice(0, 100)):
            raise Wrong(f"{rows.num_rows} rows in pieces", words, "what the first 100 give alone")


@check("payload.parts_once", "What was put aside can be had once, byte by byte; then, or unknown, it is NOT_FOUND.",
       of="server")  # fmt: skip
def parts_once(server: Server) -> None:
    link = server.wire
    for data in (os.urandom(5 * MIB + 3), b"x"):
        key = parcels.put(link, data)
        if parcels.get(link, key) != data:
            raise Wrong(f"{len(data)} bytes put aside", "other bytes", "the same")
        _gone(server, key, "the key a second time")
    if parcels.put(link, b"1") == parcels.put(link, b"1"):
        raise Wrong("the same bytes put aside twice", "the same key", "a key of its own for each")
    _gone(server, "no-such-key", "a key that it did not give")


def _gone(server: Server, key: str, given: str) -> None:
    try:
        server.wire.stream(server.wire.plugin.Get, GetRequest(key=key))
    except Refused as refused:
        equal(given, refused.code, "NOT_FOUND")
    else:
        raise Wrong(given, "an answer", "NOT_FOUND")
