"""Chunks and columns of formats that are columns already: Parquet files and data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import DataError, did_you_mean
from .rows import Block, Chunk, Source, shown

ROWS = 4096
"""Rows of a chunk in formats that are not cut by bytes."""


def parquet_chunks(source: Source, file: Path) -> Iterator[tuple[int, int, Any]]:
    """(rows, rows, record batch) of each chunk of a file."""
    with pq.ParquetFile(file) as table:
        places_of(source, table.schema_arrow.names, shown(file))
        for batch in table.iter_batches(ROWS, columns=list(source.columns)):
            yield batch.num_rows, batch.num_rows, batch


def hub_chunks(source: Source) -> Iterator[tuple[int, int, Any]]:
    """(rows, rows, record batch) of each chunk of a data set."""
    import datasets

    name, part = cast(tuple[str, str], source.hub)
    try:
        dataset = datasets.load_dataset(name, split=part, cache_dir=source.cache)
    except Exception as error:
        raise DataError(f"{source.where}: data set '{name}', split '{part}': {str(error).splitlines()[0]}") from error
    places_of(source, dataset.column_names, f"data set '{name}'")
    for batch in dataset.with_format("arrow").select_columns(list(source.columns)).iter(ROWS):
        for piece in cast(Any, batch).to_batches():
            yield piece.num_rows, piece.num_rows, piece


def parse_batch(source: Source, chunk: Chunk) -> Block:
    """The columns of a record batch as text, as a field of a TSV file would hold them."""
    batch: pa.RecordBatch = chunk.payload
    columns = []
    for name in source.columns:
        try:
            columns.append(_as_text(batch.column(batch.schema.get_field_index(name))))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            kind = batch.schema.field(name).type
            raise DataError(f"{chunk.file}: column '{name}' is of type {kind}, which is no text or number") from None
    rows = np.arange(chunk.first_row, chunk.first_row + chunk.rows, dtype=np.int64)
    block = Block(columns, rows, rows - chunk.first_row + chunk.first_line, chunk.file, [])
    absent = np.zeros(chunk.rows, bool)
    for name, values in zip(source.columns, columns, strict=True):
        if values.null_count:
            missing = np.asarray(values.is_null()) & ~absent
            block.rejects.extend(block.reject(int(row), name, "", "has no value") for row in np.flatnonzero(missing))
            absent |= missing
    return block.keep(pa.array(~absent)) if absent.any() else block


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        return pc.call_function("binary_join", [values.cast(pa.list_(pa.string())), pa.scalar(",")])
    return values.cast(pa.int8() if pa.types.is_boolean(values.type) else values.type).cast(pa.string())


def places_of(source: Source, names: Sequence[str], where: str) -> list[int]:
    """Where the columns of the header are among those of a file.

    Raises:
        DataError: one of them is not there.
    """
    for name in source.columns:
        if name not in names:
            near = did_you_mean(name, names) or f"; it has {', '.join(names)}"
            raise DataError(f"{where} has no column '{name}', which {source.header} names{near}")
    return [list(names).index(name) for name in source.columns]
