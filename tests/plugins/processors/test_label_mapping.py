"""`label_mapping`: names to classes or numbers; the type is decided once."""

import numpy as np
import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field, Processor
from deepgen.kernel.errors import SceneError
from deepgen.kernel.registry import find


def bound(**options: object) -> Processor:
    processor = find("processor", "label_mapping").plugin(**options)
    assert isinstance(processor, Processor)
    processor.bind(("label",), "labels")
    return processor


def test_classes() -> None:
    processor = bound(label_mapping={"bad": "0", "very good": "2", "good": "1"})
    assert processor.fields() == (Field("labels", "int64"),)
    assert processor.class_names() == ("bad", "good", "very good")
    made = processor.process([pa.array(["good", "bad", "very good"])])["labels"]
    assert made.type == pa.int64()
    assert made.to_pylist() == [1, 0, 2]


def test_the_default_of_the_original() -> None:
    assert bound().process([pa.array(["1", "0"])])["labels"].to_pylist() == [1, 0]


def test_one_decimal_makes_all_float() -> None:
    processor = bound(label_mapping={"low": "0", "high": "0.9", "top": "1"})
    assert processor.fields() == (Field("labels", "float32"),)
    assert processor.class_names() == ()
    made = processor.process([pa.array(["top", "low"])])["labels"]  # a batch of whole values alone
    assert made.type == pa.float32()
    assert made.to_pylist() == [1.0, 0.0]
    assert processor.process([pa.array(["high"])])["labels"].to_pylist() == [float(np.float32(0.9))]


def test_unknown_names_are_bad_rows() -> None:
    with pytest.raises(BadRows) as error:
        bound(label_mapping={"a": "0", "b": "1"}).process([pa.array(["a", "c", "b", " a", None])])
    known = "is not in label_mapping, which knows a, b"
    assert [(row.row, row.value, row.reason) for row in error.value.rows] == [
        (1, "c", known),
        (3, " a", known),
        (4, "", "has no value"),
    ]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "label_mapping is empty"),
        ({"a": "0", "b": "x"}, "'b' has the value 'x', which is not a number"),
        ({"a": "0", "b": "2"}, "no label for class number 1"),
        ({"a": "1", "b": "2"}, "no label for class number 0"),
        ({"a": "0", "b": "-1"}, "'b' has the class number -1"),
        ({"a": "0", "b": "0"}, "gives class number 0 to 'a' and 'b'"),
        ({"a": "0.5", "b": "nan"}, "'b' has the value 'nan', which is not a number"),
    ],
)
def test_refused_mappings(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        bound(label_mapping=mapping)
