"""`convert2floatlist`: lists of one length, and every bad cell named."""

from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field
from deepgen.kernel.registry import find


def convert(*cells: str, sum_to_one: bool = False) -> list[list[float]]:
    processor: Any = find("processor", "convert2floatlist").plugin()
    processor.sum_to_one = sum_to_one
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


def test_probabilities() -> None:
    """A few digits are enough; what is below 0 or adds up to something else is a bad row."""
    good = ["0.25,0.75", "1,0", "0.333,0.667", "0.33,0.668"]
    assert convert(*good, sum_to_one=True) == convert(*good)
    with pytest.raises(BadRows) as error:
        convert("0.5,0.5", "0.5,0.6", "1.5,-0.5", "0,0", sum_to_one=True)
    assert [(row.row, row.value, row.reason) for row in error.value.rows] == [
        (1, "0.5,0.6", "does not add up to 1, as probabilities do"),
        (2, "1.5,-0.5", "has a number below 0, which is no probability"),
        (3, "0,0", "does not add up to 1, as probabilities do"),
    ]
    assert convert(sum_to_one=True) == []
