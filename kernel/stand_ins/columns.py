"""Fields of some rows, in the forms that batches have, as Arrow columns and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa


def column_of(values: Any) -> pa.Array:
    """A field of some rows as `Table.take` gives it: an array, or a list of arrays or texts."""
    if isinstance(values, np.ndarray):
        if values.ndim == 1:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    if values and isinstance(values[0], np.ndarray):
        counts = np.fromiter(map(len, values), np.int32, len(values))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(values)))
    return pa.array(values)


def rows_of(array: pa.Array, ragged: bool) -> Any:
    """The same the other way round."""
    if pa.types.is_string(array.type):
        return array.to_pylist()
    if not ragged and not pa.types.is_nested(array.type):
        return array.to_numpy(zero_copy_only=False)
    flat = array.flatten().to_numpy(zero_copy_only=False)
    if ragged:
        return np.split(flat, np.cumsum(np.diff(array.offsets.to_numpy()))[:-1])
    return flat.reshape(len(array), -1)
