"""`convert2float`: finite decimals, and every bad cell named."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field
from deepgen.kernel.registry import find


def convert(*cells: str) -> pa.Array:
    processor: Any = find("processor", "convert2float").plugin()
    processor.bind(("score",), "labels")
    assert processor.fields() == (Field("labels", "float32"),)
    return processor.process([pa.array(cells, pa.string())])["labels"]


def test_numbers() -> None:
    cells = ["0.1", "-2.3000", "+4", " 5. ", ".5", "1e-3", "-1E+2", "3.4028234e38"]
    made = convert(*cells)
    assert made.type == pa.float32()
    assert made.to_pylist() == [float(np.float32(cell)) for cell in cells]
    assert len(convert()) == 0


@pytest.mark.parametrize("cell", ["", "x", "nan", "inf", "-Infinity", "1,5", "0x1p3", "1_0", "1e", ".", "1 2"])
def test_no_number(cell: str) -> None:
    with pytest.raises(BadRows) as error:
        convert(cell, "1", cell)
    assert [(row.row, row.value, row.reason) for row in error.value.rows] == [
        (0, cell, "is not a number"),
        (2, cell, "is not a number"),
    ]


def test_too_large() -> None:
    with pytest.raises(BadRows) as error:
        convert("1", "1e39", "-1e400")
    assert [(row.row, row.reason) for row in error.value.rows] == [
        (1, "does not fit into 32 bits"),
        (2, "does not fit into 32 bits"),
    ]
