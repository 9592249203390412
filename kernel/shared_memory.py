"""Memory that a plugin on this machine opens as a file: large batches are not sent, only told of."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Any

from deepgen.v1 import payload_pb2

PAGE = mmap.ALLOCATIONGRANULARITY


class Region:
    """Memory of this process under a path; it is gone with the process, also when that is killed."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("deepgen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # whoever reads memory that another has cut off is killed
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        self._map: mmap.mmap | None = None
        self.size = 0
        """Bytes."""

    @property
    def path(self) -> str:
        """For other processes of this user, as long as this one lives."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def write(self, data: Any, offset: int = 0) -> payload_pb2.SharedMemory:
        """Puts bytes at a place; gives what a plugin is told."""
        end = offset + len(data)
        self.grow(end)
        assert self._map is not None
        self._map[offset:end] = data
        return payload_pb2.SharedMemory(path=self.path, offset=offset, length=len(data))

    def room(self) -> payload_pb2.SharedMemory:
        """All of it, for an answer."""
        return payload_pb2.SharedMemory(path=self.path, offset=0, length=self.size)

    def read(self, place: payload_pb2.SharedMemory) -> bytes:
        """A copy of what was written there.

        Raises:
            ValueError: it is another memory, or more than this.
        """
        end = place.offset + place.length
        if place.path != self.path or end > self.size or self._map is None:
            raise ValueError(
                f"{place.length} bytes from {place.offset} in {place.path}, where it was given {self.size}"
            )
        return self._map[place.offset : end]

    def grow(self, least: int) -> None:
        """Makes it at least so many bytes large."""
        if least <= self.size:
            return
        size = max(least, 2 * self.size)
        size = -(-size // PAGE) * PAGE
        os.ftruncate(self._descriptor, size)
        if self._map is not None:
            self._map.close()
        self._map = mmap.mmap(self._descriptor, size)
        self.size = size

    def close(self) -> None:
        """Gives the memory back."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1  # the number may be that of another file from now on

    def __del__(self) -> None:
        try:
            self.close()
        except (OSError, AttributeError):
            return
