"""Payloads in and out: inside the message, in memory of the host's, or put aside in parts."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pyarrow as pa

from deepgen.v1 import payload_pb2, plugin_service_pb2

from ...kernel import payload
from ...kernel.errors import PluginError
from ...kernel.wire_features import LARGEST, PIECE, SHARED_FROM
from . import host_memory
from .refusals import Refused, invalid, not_found

MOST_KEPT = 8 << 30
"""Bytes that are put aside at one time."""
KEPT_SECONDS = 600.0
"""After which a payload that was put aside and is not asked for is forgotten."""


class Payloads:
    """Reads those of requests and writes those of answers."""

    def __init__(self, *, shares: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Without `shares` no memory of the host's is opened: it is another machine's, or somebody else's."""
        self.shares = shares
        self._clock = clock
        self._aside: dict[str, tuple[float, Any]] = {}
        self._kept = 0
        self._lock = threading.Lock()

    def read(self, given: payload_pb2.Payload) -> pa.RecordBatch:
        """The rows of a payload, on its own memory.

        Raises:
            Refused: there are none, or they cannot be read.
        """
        place = given.WhichOneof("place")
        if place is None:
            raise invalid("a payload says neither `arrow` nor `shared` nor `parts`")
        if place == "arrow":
            data: Any = given.arrow
        elif place == "parts":
            data = self._take(given.parts)
        else:
            data = self._opened(given.shared)
        try:
            return payload.read(data)
        except PluginError as error:
            raise invalid(str(error)) from None

    def write(self, batch: pa.RecordBatch, room: payload_pb2.SharedMemory, into: payload_pb2.Payload) -> None:
        """Rows as the payload of an answer: in the room, where there is some and they are large and fit."""
        data = payload.written(batch)
        if room.path and self.shares and SHARED_FROM <= data.size <= room.length:
            try:
                host_memory.write(room, data)
            except OSError:
                pass
            else:
                into.shared.path, into.shared.offset, into.shared.length = room.path, room.offset, data.size
                return
        if data.size <= LARGEST:
            into.arrow = data.to_pybytes()  # set in its place: a message that is put into another is copied
        else:
            into.parts = self._keep(data)

    def put(self, pieces: Iterable[plugin_service_pb2.PutRequest]) -> str:
        """Puts pieces aside as one payload, and gives its key.

        Raises:
            Refused: a piece is too large, or too much is put aside.
        """
        data = bytearray()
        for piece in pieces:
            if len(piece.data) > PIECE:
                raise invalid(f"a piece has {len(piece.data)} bytes; send at most {PIECE}")
            data += piece.data
            self._make_room(len(data))
        return self._keep(data)

    def get(self, key: str) -> Iterator[plugin_service_pb2.GetResponse]:
        """The pieces of a payload that was put aside, which is forgotten.

        Raises:
            Refused: there is none of that key.
        """
        data = memoryview(self._take(key))
        for start in range(0, len(data), PIECE):
            yield plugin_service_pb2.GetResponse(data=bytes(data[start : start + PIECE]))

    def _opened(self, place: payload_pb2.SharedMemory) -> Any:
        if not self.shares:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "this plugin opens no memory of its host")
        try:
            return host_memory.opened(place)
        except OSError as error:
            raise invalid(f"shared memory: {place.path} cannot be opened: {error.strerror or error}") from None

    def _keep(self, data: Any) -> str:
        key = secrets.token_hex(16)
        size = len(memoryview(data))
        with self._lock:
            self._forget_old(size)
            self._aside[key] = (self._clock() + KEPT_SECONDS, data)
            self._kept += size
        return key

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._forget_old(size)

    def _forget_old(self, size: int) -> None:
        now = self._clock()
        for key in [key for key, (until, _) in self._aside.items() if until <= now]:
            self._kept -= len(memoryview(self._aside.pop(key)[1]))
        if self._kept + size > MOST_KEPT:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._kept} bytes are put aside and not asked for; {size} more are above {MOST_KEPT}",
            )

    def _take(self, key: str) -> Any:
        with self._lock:
            until, data = self._aside.pop(key, (0.0, b""))
            self._kept -= len(memoryview(data))
            if until <= self._clock():
                raise not_found(f"no payload is put aside under '{key}'")
        return data
