"""The learning curve and the scores of a run as TensorBoard's event files; a reader of the event stream.

An event file is TensorFlow's record format (length, its checksum, data, its checksum; little-endian) around `Event`
messages of tensorflow/core/util/event.proto. The few fields that curves need are written here, so that nothing has to
be installed but TensorBoard itself, where the folder is to be shown.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from deepgen.v1.event_pb2 import Event

from .errors import SceneError

POLYNOMIAL = 0x82F63B78
"""Of CRC-32C (Castagnoli), reversed."""


class Curves:
    """Writes a point for each value of a progress event and each score, under the names that they have in MLflow."""

    def __init__(self, folder: str) -> None:
        """Begins a file of its own, so that a resumed run adds to the curves.

        Raises:
            SceneError: the folder cannot be written.
        """
        self._file: BinaryIO | None = None
        self._ended = False
        self._name = f"{socket.gethostname()}.{os.getpid()}"
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise SceneError(f"logging_dir = '{folder}': {error.strerror}; give a folder to write to") from None

    def __call__(self, event: Event) -> None:
        """Takes one event; a disk that is full ends the curves and not the run."""
        if event.HasField("progress"):
            step, group, values = event.progress.step, event.progress.stage, event.progress.values
        elif event.HasField("scored"):
            step, group, values = event.scored.step, event.scored.split, event.scored.scores
        else:
            return
        points = b"".join(
            _field(1, _field(1, f"{group}/{name.removeprefix('eval_')}".encode()) + b"\x15" + _float(value))
            for name, value in values.items()
        )
        if points:
            self._write(event.time.ToMilliseconds() / 1000, b"\x10" + _varint(step) + _field(5, points))

    def _write(self, seconds: float, body: bytes) -> None:
        if self._ended:
            return
        try:
            if self._file is None:
                path = self._folder / f"events.out.tfevents.{int(seconds)}.{self._name}"
                self._file = path.open("ab", buffering=0)
                self._file.write(record(b"\x09" + struct.pack("<d", seconds) + _field(3, b"brain.Event:2")))
            self._file.write(record(b"\x09" + struct.pack("<d", seconds) + body))
        except OSError as error:
            self._ended = True
            print(f"logging_dir: no more points are written: {error}", file=sys.stderr)


def record(data: bytes) -> bytes:
    """One record of the file."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def crc32c(data: bytes) -> int:
    """The CRC-32C of RFC 3720."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table(number: int) -> int:
    for _ in range(8):
        number = (number >> 1) ^ (POLYNOMIAL if number & 1 else 0)
    return number


_TABLE = tuple(map(_table, range(256)))


def _checksum(data: bytes) -> bytes:
    """Masked, as TensorFlow does it: data may hold checksums itself."""
    value = crc32c(data)
    return struct.pack("<I", (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _field(number: int, content: bytes) -> bytes:
    """A field of a message that holds bytes."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _float(number: float) -> bytes:
    """As 32 bits; what is too large for them is infinite."""
    try:
        return struct.pack("<f", number)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, number))


def _varint(number: int) -> bytes:
    """A whole number from 0 on, seven bits a byte."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
