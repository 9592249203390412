"""Lines of text cells between TABs, and what a cell is written as so that it stays within its line."""

from __future__ import annotations

import re

ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_PLAIN = {written: sign for sign, written in ESCAPES.items()}
_WRITTEN = re.compile(r"\\[\\tnr]")


def cells(row: bytes) -> list[list[str]]:
    """The cells of each line of a row, as they were before they were escaped."""
    lines = row.decode().split("\n")[:-1]
    return [[_WRITTEN.sub(lambda found: _PLAIN[found.group()], cell) for cell in line.split("\t")] for line in lines]
