"""Generation lines: one a sequence, whatever the texts hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.outputters.generation import Generation


def lines(texts: list[list[str]], columns: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    return Generation().format(Predictions(np.arange(len(texts)), "text", texts=texts, columns=columns or {}))


def unescaped(text: str) -> str:
    """What a reader of the file does."""
    signs = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    parts, escaped = [], False
    for sign in text:
        if escaped:
            parts.append(signs[sign])
            escaped = False
        elif sign == "\\":
            escaped = True
        else:
            parts.append(sign)
    return "".join(parts)


def test_each_sequence_is_a_line_with_its_number() -> None:
    found = lines([["best", "second"], ["only"]], {"id": ["7", "8"], "source": ["x", "y"]})
    assert found == ["7\tx\tbest\t0\n7\tx\tsecond\t1\n", "8\ty\tonly\t0\n"]
    assert Generation().columns("text", ("id",)) == ("id", "text", "j")


def test_without_result_columns_there_are_text_and_number() -> None:
    assert lines([["a"], ["é"]]) == ["a\t0\n", "é\t0\n"]


def test_tabs_and_newlines_are_escaped() -> None:
    assert lines([["a\tb\nc\r\\d"]], {"id": ["1\t2"]}) == ["1\\t2\ta\\tb\\nc\\r\\\\d\t0\n"]


def test_a_row_without_a_text_has_an_empty_one() -> None:
    assert lines([[], [""]]) == ["\t0\n", "\t0\n"]


def test_no_rows_give_no_lines() -> None:
    assert lines([], {"id": []}) == lines([]) == []


@given(st.text(alphabet="ab\\\t\n\rtn "), st.text(alphabet="a\\\t\n\rnt"))
def test_a_reader_gets_the_text_back(text: str, column: str) -> None:
    (found,) = lines([[text]], {"column": [column]})
    assert found.count("\n") == 1
    cells = found.removesuffix("\n").split("\t")
    assert [unescaped(cell) for cell in cells] == [column, text, "0"]
