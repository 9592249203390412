"""Finds the cells of a column that a processor cannot read, and names them exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contracts import BadRow, BadRows

if TYPE_CHECKING:
    import pyarrow as pa

FLOAT = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A decimal number as a regular expression of RE2; no hexadecimal, infinity or NaN."""


def refuse(column: str, cells: pa.Array, *checks: tuple[pa.Array, str]) -> None:
    """Raises for every cell that one of the masks marks as bad, with the reason that goes with the mask.

    Args:
        column: name of the column.
        cells: the cells as they were read.
        checks: a mask of bad cells and what is wrong with them; the first that marks a cell gives the reason. A
            mask that is null marks the cell too: that is a cell without a value.

    Raises:
        BadRows: at least one cell is bad.
    """
    import pyarrow.compute as pc

    reasons: dict[int, str] = {}
    for mask, reason in ((pc.is_null(cells), "has no value"), *checks):
        bad = pc.fill_null(mask, True) if mask.null_count else mask  # it imports pandas
        if pc.any(bad).as_py():
            for row in pc.indices_nonzero(bad).to_pylist():
                reasons.setdefault(row, reason)
    if reasons:
        raise BadRows([BadRow(row, column, cells[row].as_py() or "", reasons[row]) for row in sorted(reasons)])


def floats(cells: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Numbers as float32 and the mask of those out of its range; each cell is already known to match `FLOAT`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.replace_substring_regex(cells, r"^\+", "")
    numbers = pc.cast(plain, pa.float32())
    return numbers, pc.invert(pc.is_finite(numbers))
