"""`convert2int`: exact numbers, and every bad cell named."""

from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field
from deepgen.kernel.registry import find


def convert(*cells: str | None) -> list[int]:
    processor: Any = find("processor", "convert2int").plugin()
    processor.bind(("label",), "labels")
    assert processor.fields() == (Field("labels", "int64"),)
    made = processor.process([pa.array(cells, pa.string())])["labels"]
    assert made.type == pa.int64()
    return list(made.to_pylist())


def test_numbers() -> None:
    assert convert("1", "-2", "+3", "007", " 4 ", "\t5", "-0") == [1, -2, 3, 7, 4, 5, 0]
    assert convert(str(2**63 - 1), str(-(2**63))) == [2**63 - 1, -(2**63)]
    assert convert() == []


@pytest.mark.parametrize("cell", ["", " ", "x", "1.0", "0x1F", "1e3", "1_000", "٣", "--1", "1 2", "nan", "1\n2"])
def test_no_whole_number(cell: str) -> None:
    with pytest.raises(BadRows) as error:
        convert("1", cell, "2", cell)
    assert [(row.row, row.column, row.value, row.reason) for row in error.value.rows] == [
        (1, "label", cell, "is not a whole number"),
        (3, "label", cell, "is not a whole number"),
    ]


def test_too_large_and_missing() -> None:
    with pytest.raises(BadRows) as error:
        convert("1", str(2**63), "00000000000000000000000001", str(-(2**63) - 1))
    assert [(row.row, row.reason) for row in error.value.rows] == [
        (1, "does not fit into 64 bits"),
        (3, "does not fit into 64 bits"),
    ]
    with pytest.raises(BadRows) as error:  # more digits than Python reads
        convert("1", "-" + "9" * 5000, "0" * 5000 + "1")
    assert [(row.row, row.reason) for row in error.value.rows] == [(1, "does not fit into 64 bits")]
    with pytest.raises(BadRows) as error:
        convert("1", None)
    assert [(row.row, row.value, row.reason) for row in error.value.rows] == [(1, "", "has no value")]
