"""How rows are put into a payload and taken out of one: in the message, in shared memory, or in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from deepgen.v1.payload_pb2 import Payload
from deepgen.v1.plugin_service_pb2 import GetRequest, PutRequest

from ...kernel.payload import read, written
from ...kernel.wire_features import LARGEST, PIECE
from .checks import Wrong
from .regions import Region
from .wire import Wire


def parcel(wire: Wire, data: Any) -> Payload:
    """An Arrow stream as a payload: in the message, or in parts where it is too large for one."""
    if len(data) <= LARGEST:
        return Payload(arrow=bytes(data))
    return Payload(parts=put(wire, data))


def put(wire: Wire, data: Any) -> str:
    """Puts bytes aside at the plugin; gives their key."""
    view = memoryview(data)

    def pieces() -> Iterator[PutRequest]:
        for begin in range(0, len(view), PIECE):
            yield PutRequest(data=bytes(view[begin : begin + PIECE]))

    return wire.ask(wire.plugin.Put, pieces(), seconds=120).key


def get(wire: Wire, key: str) -> bytes:
    """Takes what the plugin put aside."""
    return b"".join(answer.data for answer in wire.stream(wire.plugin.Get, GetRequest(key=key)))


def batch(rows: pa.RecordBatch) -> bytes:
    """Rows as an Arrow stream."""
    data: bytes = written(rows).to_pybytes()
    return data


def opened(wire: Wire, payload: Payload, room: Region | None = None, what: str = "a call") -> pa.RecordBatch:
    """The rows of a payload that a plugin gave.

    Raises:
        Wrong: they are in no place, or no Arrow stream.
    """
    place = payload.WhichOneof("place")
    if place == "arrow":
        data = payload.arrow
    elif place == "parts":
        data = get(wire, payload.parts)
    elif place == "shared" and room is not None:
        data = room.bytes[payload.shared.offset : payload.shared.offset + payload.shared.length]
    else:
        raise Wrong(what, f"a payload in {place or 'no place'}", "one in the message, in parts, or in the room given")
    try:
        return read(data)
    except Exception as error:
        raise Wrong(what, error, "an Arrow IPC stream") from None
