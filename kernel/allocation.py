"""Has the C library keep the memory of a message for the next one, which is much of what a message costs."""

from __future__ import annotations

import ctypes
from functools import cache

LARGEST_KEPT = 32 << 20
"""Bytes of one piece; larger ones are given back to the system when they are freed. It is the most that glibc takes."""
FREE_KEPT = 128 << 20
"""Free bytes at the end of the heap that are kept."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> bool:
    """Sets it for this process, once; whether there is such a setting (it is glibc's).

    By default a message of 300 KB takes several new pieces of memory from the system and gives them back, and each page
    costs an interruption when it is first touched: half of the time of a call.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(_TRIM_THRESHOLD, FREE_KEPT))
