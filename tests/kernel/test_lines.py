"""Cells between TABs come back as they were before they were escaped."""

from hypothesis import given
from hypothesis import strategies as st

from deepgen.kernel.lines import ESCAPES, cells

TEXT = st.text(st.sampled_from('ab\\tnr\t\n\r" ,ö\u2028\x0b'))


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=3))
def test_cells_come_back(lines: list[list[str]]) -> None:
    table = str.maketrans(ESCAPES)
    row = "".join("\t".join(cell.translate(table) for cell in line) + "\n" for line in lines)
    assert cells(row.encode()) == lines
