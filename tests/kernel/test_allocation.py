"""Memory that was freed stays with the process: measured by what the C library says of itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deepgen.kernel.allocation import LARGEST_KEPT

CODE = """
import ctypes
from deepgen.kernel.allocation import keep_freed_memory
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
class Counts(ctypes.Structure):
    _fields_ = [(f"count{{place}}", ctypes.c_size_t) for place in range(10)]
library.mallinfo2.restype = Counts
assert {set} or keep_freed_memory()
before = library.mallinfo2().count3
piece = library.malloc({size})
mapped = library.mallinfo2().count3 - before
library.free(piece)
print(mapped, library.mallinfo2().count9 >= {size})
"""
"""Whether a piece is asked of the system by itself (`hblks`), and whether it is kept when it is freed (`keepcost`)."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_pieces_are_kept() -> None:
    def measured(without: bool) -> str:
        code = CODE.format(set=without, size=LARGEST_KEPT - 4096)
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert measured(without=True) == "1 False\n"
    assert measured(without=False) == "0 True\n"
