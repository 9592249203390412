"""Cuts files into chunks of raw rows, and parses a chunk into columns of text: TSV, CSV, JSONL, Parquet, hub."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columnar import ROWS, hub_chunks, parquet_chunks, parse_batch, places_of
from .errors import DataError
from .rows import Block, Chunk, Format, Reject, Source, shown

BLOCK = 1 << 19
"""Bytes of text in a chunk: some thousand rows, enough to keep a batch tokenizer's threads busy."""
_TAB, _NEWLINE = 9, 10
_HALF = re.compile(r"[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can write and UTF-8 cannot."""


def chunks(source: Source, notice: Callable[[str], None] = lambda _: None) -> Iterator[Chunk]:
    """All rows of the input in order, in chunks that do not depend on who reads them.

    Raises:
        DataError: a file that cannot be read, or lacks a column.
    """
    index = row = 0
    inputs: list[tuple[str, Format, Iterator[tuple[int, int, Any]]]] = []
    if source.hub:
        inputs.append(("hub:" + ":".join(source.hub), "hub", hub_chunks(source)))
    for file, kind in zip(source.files, source.formats, strict=True):
        inputs.append((shown(file), kind, _file_chunks(source, file, kind, notice)))
    for name, kind, parts in inputs:
        line = 1
        for rows, lines, payload in parts:
            yield Chunk(index, name, kind, row, line, rows, payload)
            index, row, line = index + 1, row + rows, line + lines


def parse(source: Source, chunk: Chunk) -> Block:
    """The columns of a chunk, in the order of the header; rows that do not fit it become rejects."""
    if chunk.format == "tsv":
        return _parse_tsv(source, chunk)
    if chunk.format in ("parquet", "hub"):
        return parse_batch(source, chunk)
    values: list[list[str]] = [[] for _ in source.columns]
    rows: list[int] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    records = chunk.payload if chunk.format == "csv" else _json_records(source, chunk)
    for position, (line, fields) in enumerate(records):
        if isinstance(fields, list):
            try:
                "".join(fields).encode()
            except UnicodeEncodeError:
                fields = ("", "", "is not UTF-8 text", "\t".join(fields))
        if isinstance(fields, tuple):
            column, value, reason, text = fields
            text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            rejects.append(Reject(chunk.first_row + position, chunk.file, line, column, value, reason, text))
        elif fields is not None:
            rows.append(chunk.first_row + position)
            lines.append(line)
            for kept, field in zip(values, fields, strict=True):
                kept.append(field)
    columns = [pa.array(kept, pa.string()) for kept in values]
    return Block(columns, np.array(rows, np.int64), np.array(lines, np.int64), chunk.file, rejects)


def cut(chunk: Chunk, begin: int, end: int) -> Chunk:
    """Some rows of a chunk, from the `begin`-th up to the `end`-th."""
    if (begin, end) == (0, chunk.rows):
        return chunk
    line = chunk.first_line + begin
    if chunk.format in ("tsv", "jsonl"):
        payload: Any = chunk.payload[chunk.ends[begin - 1] if begin else 0 : chunk.ends[end - 1] if end else 0]
    elif chunk.format == "csv":
        payload = chunk.payload[begin:end]
    else:
        payload = chunk.payload.slice(begin, end - begin)
    return replace(chunk, first_row=chunk.first_row + begin, first_line=line, rows=end - begin, payload=payload)


def _file_chunks(
    source: Source, file: Path, kind: Format, notice: Callable[[str], None]
) -> Iterator[tuple[int, int, Any]]:
    """(rows, lines, payload) of each chunk of a file."""
    name = shown(file)
    try:
        if kind == "parquet":
            yield from parquet_chunks(source, file)
            return
        with cast(IO[bytes], gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb")) as stream:
            if kind == "csv":
                yield from _csv_chunks(source, name, stream)
            else:
                for block in line_blocks(stream, name, notice):
                    lines = block.count(b"\n")
                    yield lines, lines, block
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise DataError(f"{name}: cannot be read as {kind}: {str(error).splitlines()[0]}") from error


def line_blocks(stream: IO[bytes], name: str, notice: Callable[[str], None]) -> Iterator[bytes]:
    """Whole lines, about BLOCK bytes at a time. Only a line feed ends a line; a byte order mark is no text.

    A file whose first line ends in CR LF was written that way throughout, so its line ends lose the CR.
    """
    first, strip, waiting = True, False, list[bytes]()
    while True:
        block = stream.read(BLOCK)
        cut = block.rfind(b"\n") + 1
        if block and not cut:
            waiting.append(block)
            continue
        lines = b"".join([*waiting, block[:cut]])
        waiting = [block[cut:]]
        if not block and lines:
            lines += b"\n"
        if first and lines:
            first = False
            lines = lines.removeprefix(b"\xef\xbb\xbf")
            if strip := lines[: lines.index(b"\n")].endswith(b"\r"):
                notice(f"{name} has Windows line ends (CR LF); the CR is no part of the text")
        if lines:
            yield lines.replace(b"\r\n", b"\n") if strip else lines
        if not block:
            return


def _parse_tsv(source: Source, chunk: Chunk) -> Block:
    width, data = len(source.columns), cast(bytes, chunk.payload)
    lines = np.arange(chunk.first_line, chunk.first_line + chunk.rows, dtype=np.int64)
    marks, counts = _marks(data)
    bad = counts != width
    names = "\t".join(source.columns).encode()
    has_names = chunk.first_line == 1 and width > 1 and data.startswith(names + b"\n")
    rejects: list[Reject] = []
    if bad.any() or has_names or not _is_utf8(data):
        kept = []
        for position, (line, count) in enumerate(zip(data.split(b"\n"), counts, strict=False)):
            if bad[position]:
                reason = f"has {count} field{'s' * bool(count != 1)} where {source.header} names {width}"
            elif has_names and position == 0:
                reason = "holds the names of the columns; a TSV file has no header line"
            elif not _is_utf8(line):
                reason = "is not UTF-8 text"
            else:
                kept.append(line + b"\n")
                continue
            bad[position] = True
            text = line.decode("utf-8", "backslashreplace")
            row = chunk.first_row + position
            rejects.append(Reject(row, chunk.file, chunk.first_line + position, "", text, reason, text))
        data = b"".join(kept)
        marks, _ = _marks(data)
        lines = lines[~bad]
    # All fields in one array, each with the byte that ends it; then every width-th one, without that byte.
    offsets = np.zeros(len(marks) + 1, np.int32)
    offsets[1:] = marks + 1
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    everything = pa.Array.from_buffers(pa.binary(), len(marks), buffers)
    columns = []
    for place in range(width):
        which = np.arange(place, len(marks), width)
        # `pa.array` would import pandas, which takes longer than reading the file.
        fields = everything.take(pa.Array.from_buffers(pa.int64(), len(which), [None, pa.py_buffer(which)]))
        columns.append(pc.call_function("binary_slice", [fields], pc.SliceOptions(0, -1)).view(pa.string()))
    return Block(columns, lines - chunk.first_line + chunk.first_row, lines, chunk.file, rejects)


def _marks(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where tabs and line feeds are, and how many fields each line has."""
    table = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero((table == _TAB) | (table == _NEWLINE))
    return marks, np.diff(np.flatnonzero(table[marks] == _NEWLINE), prepend=-1)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _csv_chunks(source: Source, name: str, stream: IO[bytes]) -> Iterator[tuple[int, int, Any]]:
    csv.field_size_limit(2**31 - 1)
    decoded = (line.decode("utf-8", "surrogateescape") for line in stream)
    reader = csv.reader(decoded, strict=True)
    names = [field.removeprefix("\ufeff") for field in next(reader, [])]
    if not names:
        return
    places = places_of(source, names, f"{name}:1: the first line")
    records: list[tuple[int, Any]] = []
    begin = end = reader.line_num
    while True:
        try:
            fields: Any = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            fields = ("", "", f"is not CSV: {error}", "")
        line, end = end + 1, reader.line_num
        if isinstance(fields, list):
            if not fields:  # a blank line is no row
                continue
            if len(fields) != len(names):
                fields = ("", "", f"has {len(fields)} fields where the first line has {len(names)}", "\t".join(fields))
            else:
                fields = [fields[place] for place in places]
        records.append((line, fields))
        if len(records) == ROWS:
            yield len(records), end - begin, records
            records, begin = [], end
    if records:
        yield len(records), end - begin, records


def _json_records(source: Source, chunk: Chunk) -> Iterator[tuple[int, Any]]:
    """(line, fields), or (line, why it is a bad row); blank lines give None."""
    for position, line in enumerate(chunk.payload.split(b"\n")[:-1]):
        number = chunk.first_line + position
        text = line.decode("utf-8", "backslashreplace")
        if not line.strip():
            yield number, None
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"is not JSON: {error}"
            yield number, ("", "", reason, text)
            continue
        if not isinstance(record, dict):
            yield number, ("", "", "is no JSON object", text)
            continue
        fields: Any = []
        for column in source.columns:
            value = json_text(record.get(column))
            if value is None:
                reason = "is no text, number or list of such" if record.get(column) is not None else "has no value"
                fields = (column, json.dumps(record.get(column)), reason, text)
                break
            fields.append(value)
        yield number, fields


def json_text(value: Any) -> str | None:
    """A JSON value as a field of a TSV file would hold it; None where none could, as half of a surrogate pair."""
    if isinstance(value, str):
        return value if value.isascii() or not _HALF.search(value) else None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        parts = [json_text(part) for part in value]
        return None if None in parts else ",".join(cast(list[str], parts))
    return None
