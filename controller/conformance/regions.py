"""Memory that is shared with a plugin: a file without a name, which the plugin opens by its path under /proc."""

from __future__ import annotations

import mmap
import os
from types import TracebackType

from deepgen.v1.payload_pb2 import SharedMemory


class Region:
    """So many bytes, all of one value at first."""

    def __init__(self, size: int, fill: bytes = b"\0") -> None:
        self._file = os.memfd_create("deepgen-conformance")
        os.ftruncate(self._file, size)
        self.bytes = mmap.mmap(self._file, size)
        self.bytes[:] = fill * size

    def __enter__(self) -> Region:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes.close()
        os.close(self._file)

    def part(self, offset: int = 0, length: int | None = None) -> SharedMemory:
        """A piece of it as a message."""
        length = len(self.bytes) - offset if length is None else length
        return SharedMemory(path=f"/proc/{os.getpid()}/fd/{self._file}", offset=offset, length=length)
