"""`convert2floatlist`: lists of one length, and every bad cell named."""

from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field
from deepgen.kernel.registry import find


def convert(*cells: str) -> list[list[float]]:
    processor: Any = find("processor", "convert2floatlist").plugin()
    processor.bind(("labels",), "labels")
    assert processor.fields() == (Field("labels", "float32", "fixed"),)
    return list(processor.process([pa.array(cells, pa.string())])["labels"].to_pylist())


def test_commas_and_spaces() -> None:
    assert convert("0.5,0.25", "1 2", " 1 , -2 ", "+3,\t4e0") == [[0.5, 0.25], [1, 2], [1, -2], [3, 4]]
    assert convert("1", "2") == [[1], [2]]
    assert convert() == []


@pytest.mark.parametrize("cell", ["", "1,,2", "1,2,", ",1", "1;2", "1,x", "nan,1"])
def test_no_list(cell: str) -> None:
    with pytest.raises(BadRows) as error:
        convert("1,2", cell, "1 2")
    assert [(row.row, row.column, row.value, row.reason) for row in error.value.rows] == [
        (1, "labels", cell, "is not a list of numbers")
    ]


def test_another_length() -> None:
    with pytest.raises(BadRows) as error:
        convert("1", "1,2", "3,4", "1,2,3", "5,6")
    assert [(row.row, row.reason) for row in error.value.rows] == [
        (0, "has not 2 numbers, as the other rows have"),
        (3, "has not 2 numbers, as the other rows have"),
    ]


def test_too_large() -> None:
    with pytest.raises(BadRows) as error:
        convert("1,2", "1,1e39", "1,2")
    assert [(row.row, row.reason) for row in error.value.rows] == [(1, "has a number that does not fit into 32 bits")]
