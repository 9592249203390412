"""Rows, predictions and states survive the way to another process and back."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deepgen.kernel import payload
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import PluginError

DTYPES = st.sampled_from(["bool", "int32", "int64", "uint64", "float16", "float32", "float64"])
STATES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0))),
    max_size=4,
)


@given(STATES)
def test_a_state_comes_back_with_its_types_shapes_and_bits(state: dict[str, np.ndarray]) -> None:
    back = payload.to_state(payload.read(payload.written(payload.from_state(state))))
    assert list(back) == list(state)
    for name, array in state.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)


def test_a_state_may_hold_texts() -> None:
    state = {"texts": np.array(["é", "", "two words"])}
    back = payload.to_state(payload.read(payload.written(payload.from_state(state))))
    assert back["texts"].tolist() == ["é", "", "two words"]


def test_texts_of_a_state_are_kept_to_the_last_character() -> None:
    state = {"texts": np.array(["end\0", "x" * 1_000_000] + [""] * 5000, object), "none": np.array([], "U3")}
    back = payload.to_state(payload.read(payload.written(payload.from_state(state))))  # as wide as the widest: 20 GB
    assert back["texts"].tolist() == state["texts"].tolist()
    assert back["none"].tolist() == []
    assert back["none"].dtype.kind in "OU"


@pytest.mark.parametrize(("ends", "data"), [([0, 200, 3], b"abc"), ([0, 2, 3], b"\xff\xfea")])
def test_what_nobody_may_read_is_refused(ends: list[int], data: bytes) -> None:
    buffers = [None, pa.py_buffer(np.array(ends, np.int32)), pa.py_buffer(data)]
    batch = pa.RecordBatch.from_pydict({"text": pa.Array.from_buffers(pa.string(), 2, buffers)})
    with pytest.raises(PluginError, match="In column 0"):
        payload.read(payload.written(batch))


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), "'scores' lacks 1 values"),
        (pa.array([[1.0, None]], pa.list_(pa.float32(), 2)), "'scores' lacks 1 values"),
        (pa.array([1, None]), "'scores' lacks 1 values"),
        (pa.array([[1.0, 2.0], [3.0]]), "'scores' is list<.*>; a number a row is right"),
        (pa.array(["1"]), "'scores' is string; a number a row is right"),
    ],
)
def test_answers_that_are_no_numbers_are_refused(scores: pa.Array, words: str) -> None:
    batch = pa.RecordBatch.from_pydict({"scores": scores})
    with pytest.raises(PluginError, match=words):
        payload.to_predictions(batch, "regression", ())


def test_predictions_come_back_whole() -> None:
    given = Predictions(
        rows=np.array([7, 3]),
        problem="embedding",
        scores=np.array([[1.5, np.nan], [np.inf, -0.0]], np.float32),
        texts=[["best", "next"], []],
        labels=np.array([1, 0]),
        references=["true", ""],
        class_names=("no", "yes"),
        columns={"text": ["a\tb", "c"], "id": ["1", "2"]},
        more={"shares": np.arange(12.0).reshape(2, 3, 2), "loss": np.array([0.5, 0.25])},
        vectors={"q": np.ones((2, 4), np.float32)},
    )
    batch = payload.read(payload.written(payload.from_predictions(given)))
    back = payload.to_predictions(batch, given.problem, given.class_names)
    for name, value in vars(given).items():
        _same(vars(back)[name], value)


def _same(back: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(back, value)
    elif isinstance(value, dict):
        assert list(back) == list(value)
        for key, one in value.items():
            _same(back[key], one)
    else:
        assert back == value


def test_several_record_batches_are_one() -> None:
    first = pa.RecordBatch.from_pydict({"a": ["x", "y"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, first.schema) as stream:
        stream.write_batch(first)
        stream.write_batch(first.slice(1))
    assert payload.read(sink.getvalue()).to_pydict() == {"a": ["x", "y", "y"]}


def test_bytes_that_are_no_arrow_are_refused_with_their_number() -> None:
    with pytest.raises(PluginError, match="payload of 7 bytes is no Arrow IPC stream"):
        payload.read(b"nothing")


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (pa.RecordBatch.from_pydict({"a": [[1], [2]]}), "has 2 rows; one row"),
        (pa.RecordBatch.from_pydict({"a": [1]}), "'a' is int64; a list"),
        (
            pa.RecordBatch.from_arrays(
                [pa.array([[1, 2, 3]])],
                schema=pa.schema([pa.field("a", pa.list_(pa.int64()), metadata={"shape": "2"})]),
            ),
            "'a' has 3 values, which fit no such shape",
        ),
    ],
)
def test_a_payload_that_is_no_state_is_refused(batch: pa.RecordBatch, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        payload.to_state(batch)
