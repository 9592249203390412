"""Memory of the host's that it names by path: opened for as long as a call needs it."""

from __future__ import annotations

import mmap
import os
import re
from typing import Any

from deepgen.v1 import payload_pb2

MOST_PROBED = 65_536
_PATH = re.compile(r"/proc/\d+/fd/\d+")


def opened(place: payload_pb2.SharedMemory, *, writable: bool = False) -> memoryview:
    """The bytes of a place; they are unmapped with their last reader.

    Only memory files are opened, by the descriptor of the process that made them: a path must not make this process
    read or write any other file.

    Raises:
        OSError: it is none, may not be opened, or is shorter.
    """
    if not _PATH.fullmatch(place.path) or not os.readlink(place.path).startswith("/memfd:"):
        raise OSError(f"{place.path} is no memory file; /proc/PID/fd/N of one is right")
    file = os.open(place.path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    try:
        size = os.fstat(file).st_size
        if place.offset + place.length > size:
            raise OSError(f"{place.path} has {size} bytes; {place.length} from {place.offset} on are not there")
        if not place.length:
            return memoryview(b"")
        start = place.offset - place.offset % mmap.ALLOCATIONGRANULARITY
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        mapped = mmap.mmap(file, place.offset + place.length - start, access=access, offset=start)
    finally:
        os.close(file)
    return memoryview(mapped)[place.offset - start :]


def write(place: payload_pb2.SharedMemory, data: Any) -> None:
    """Writes to the start of a place.

    Raises:
        OSError: as for `opened`.
    """
    source = memoryview(data).cast("B")
    opened(place, writable=True)[: len(source)] = source


def probe(place: payload_pb2.SharedMemory) -> bytes:
    """What is in a place, or nothing where it cannot be read."""
    try:
        return bytes(opened(place)[:MOST_PROBED])
    except OSError:
        return b""
