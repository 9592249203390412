"""Rows, predictions and states of metrics as Arrow IPC and back: the payloads of plugins in other processes.

proto/deepgen/v1/payload.proto says what the columns are. Nothing here knows how the bytes travel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from .contracts import Predictions, Problem, State
from .errors import PluginError

SHAPE = b"shape"
"""The metadata of a column's field in which the shape of a row (or of a whole array) stands."""
COLUMN, VECTOR, MORE = "column:", "vector:", "more:"


def written(batch: pa.RecordBatch) -> pa.Buffer:
    """A record batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def read(data: Any) -> pa.RecordBatch:
    """The rows of an Arrow IPC stream as one record batch, on the memory of `data` where the stream has one batch.

    Raises:
        PluginError: the bytes are no such stream, or its offsets or texts are such that nobody may read them.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            batches = list(stream)
            schema = stream.schema
        for batch in batches:
            batch.validate(full=True)  # who reads past the end of a column is killed
    except (pa.ArrowInvalid, OSError) as error:
        raise PluginError(f"a payload of {len(data)} bytes is no Arrow IPC stream: {error}") from None
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches, schema).combine_chunks()
    return whole.to_batches()[0] if whole.num_rows else pa.RecordBatch.from_pylist([], schema)


def batch_of(columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Arrow arrays by name as one record batch."""
    arrays = {
        name: array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array for name, array in columns.items()
    }
    return pa.RecordBatch.from_pydict(arrays)


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The columns of a record batch by name."""
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def from_state(state: State) -> pa.RecordBatch:
    """A metric's state as one row of lists."""
    fields, arrays = [], []
    for name, value in state.items():
        array = np.asarray(value)
        flat = (
            pa.array(array.reshape(-1).tolist(), pa.string()) if array.dtype.kind in "UO" else pa.array(array.ravel())
        )
        arrays.append(pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat))
        fields.append(pa.field(name, arrays[-1].type, metadata={SHAPE: ",".join(map(str, array.shape)).encode()}))
    if not fields:
        return pa.RecordBatch.from_pydict({"": pa.array([None], pa.null())})
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def to_state(batch: pa.RecordBatch) -> State:
    """A metric's state from one row of lists.

    Raises:
        PluginError: it is none.
    """
    if batch.num_rows != 1:
        raise PluginError(f"a state has {batch.num_rows} rows; one row, with a list for each array, is right")
    state: State = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not field.name:
            continue
        if not pa.types.is_list(field.type) and not pa.types.is_large_list(field.type):
            raise PluginError(f"a state's '{field.name}' is {field.type}; a list for each array is right")
        array = column.flatten().to_numpy(zero_copy_only=False)  # of texts: objects, which keep them as they are
        try:
            state[field.name] = array.reshape(_shape(field, (len(array),)))
        except ValueError:
            raise PluginError(f"a state's '{field.name}' has {len(array)} values, which fit no such shape") from None
    return state


def from_predictions(predictions: Predictions, *, bare: bool = False) -> pa.RecordBatch:
    """A model's answers as columns; problem and class names travel beside them.

    `bare`: without row numbers and the columns of `result_header`, which whoever asked has.
    """
    arrays: list[tuple[str, pa.Array, tuple[int, ...]]] = []

    def add(name: str, value: Any) -> None:
        array = np.ascontiguousarray(value)
        arrays.append((name, _fixed(array), array.shape[1:]))

    if not bare:
        add("row", np.asarray(predictions.rows, np.int64))
    if predictions.scores is not None:
        add("scores", predictions.scores)
    if predictions.texts is not None:
        arrays.append(("texts", pa.array(predictions.texts, pa.list_(pa.string())), ()))
    if predictions.labels is not None:
        add("label", predictions.labels)
    if predictions.references is not None:
        arrays.append(("reference", pa.array(predictions.references, pa.string()), ()))
    for name, texts in ({} if bare else predictions.columns).items():
        arrays.append((COLUMN + name, pa.array(texts, pa.string()), ()))
    for side, vectors in predictions.vectors.items():
        add(VECTOR + side, vectors)
    for name, value in predictions.more.items():
        add(MORE + name, value)
    schema = pa.schema(
        [
            pa.field(name, array.type, metadata={SHAPE: ",".join(map(str, shape)).encode()} if shape else None)
            for name, array, shape in arrays
        ]
    )
    return pa.RecordBatch.from_arrays([array for _, array, _ in arrays], schema=schema)


def to_predictions(batch: pa.RecordBatch, problem: str, class_names: Sequence[str]) -> Predictions:
    """A model's answers from columns; without a column `row`, rows are numbered from 0 on.

    Raises:
        PluginError: a column that is to have a number, or a list of one length, in each row has something else.
    """
    arrays = {field.name: (field, column) for field, column in zip(batch.schema, batch.columns, strict=True)}

    def take(name: str) -> np.ndarray | None:
        return _numbers(*arrays[name]) if name in arrays else None

    def named(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): _numbers(*arrays[name]) for name in arrays if name.startswith(prefix)}

    rows = take("row")
    return Predictions(
        rows=rows if rows is not None else np.arange(batch.num_rows),
        problem=cast(Problem, problem),
        scores=take("scores"),
        texts=arrays["texts"][1].to_pylist() if "texts" in arrays else None,
        labels=take("label"),
        references=arrays["reference"][1].to_pylist() if "reference" in arrays else None,
        class_names=tuple(class_names),
        columns={
            name.removeprefix(COLUMN): column.to_pylist()
            for name, (_, column) in arrays.items()
            if name.startswith(COLUMN)
        },
        more=named(MORE),
        vectors=named(VECTOR),
    )


def _fixed(array: np.ndarray) -> pa.Array:
    """[rows, …] numbers as one value a row: a number, or a fixed-size list of them."""
    flat = pa.array(array.reshape(-1))
    if array.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, math.prod(array.shape[1:]))


def _numbers(field: pa.Field, column: pa.Array) -> np.ndarray:
    """One value a row as [rows, …] numbers."""
    is_list = pa.types.is_fixed_size_list(field.type)
    kind = field.type.value_type if is_list else field.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise PluginError(f"'{field.name}' is {field.type}; a number a row is right, or a list of one length")
    flat = column.flatten() if is_list else column
    if missing := column.null_count + (flat.null_count if is_list else 0):
        raise PluginError(f"'{field.name}' lacks {missing} values")
    numbers: np.ndarray = flat.to_numpy(zero_copy_only=False)
    try:
        return numbers.reshape(len(column), *_shape(field, (field.type.list_size,))) if is_list else numbers
    except ValueError:
        raise PluginError(f"'{field.name}' has {len(numbers)} values, which fit no such shape") from None


def _shape(field: pa.Field, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    text = (field.metadata or {}).get(SHAPE, b"").decode()
    return tuple(map(int, text.split(","))) if text else otherwise
