"""`convert2multilabel`: comma lists of names as zeros and ones."""

from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field
from deepgen.kernel.errors import SceneError
from deepgen.kernel.registry import find

MAPPING = {"red": "0", "green": "2", "blue": "1"}


def bound(mapping: dict[str, str]) -> Any:
    plugin: Any = find("processor", "convert2multilabel").plugin
    processor = plugin(label_mapping=mapping)
    processor.bind(("tags",), "labels")
    return processor


def test_names() -> None:
    processor = bound(MAPPING)
    assert processor.fields() == (Field("labels", "float32", "fixed"),)
    assert processor.class_names() == ("red", "blue", "green")
    made = processor.process([pa.array(["green,red", "", "blue", " green , blue ", "red,red"])])["labels"]
    assert made.type == pa.list_(pa.float32(), 3)
    assert made.to_pylist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert len(processor.process([pa.array([], pa.string())])["labels"]) == 0


def test_unknown_names_are_bad_rows() -> None:
    with pytest.raises(BadRows) as error:
        bound(MAPPING).process([pa.array(["red", "red,pink", "blue,", "", "pink,black"])])
    reason = "is not in label_mapping, which knows red, green, blue"
    assert [(row.row, row.column, row.value, row.reason) for row in error.value.rows] == [
        (1, "tags", "red,pink", reason),
        (2, "tags", "blue,", reason),
        (4, "tags", "pink,black", reason),
    ]


def test_decimals_are_no_places() -> None:
    with pytest.raises(SceneError, match="convert2multilabel needs the place of each label"):
        bound({"a": "0.5"})
