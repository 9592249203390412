"""Vectors as an Arrow file with the result columns, or as one NumPy array."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Literal

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.errors import SceneError
from ...kernel.registry import outputter

if TYPE_CHECKING:
    import numpy as np

    from ...kernel.scene import Scene, Split

BLOCK = 4096
"""Rows of a record batch."""
Row = tuple[dict[str, Any], "np.ndarray"]
"""What a row carries besides numbers, and its numbers."""


@outputter("embedding")
@dataclass
class Embedding(Outputter):
    """One vector a row, or two where the model was given pairs, in float32.

    - arrow: an Arrow IPC file (Feather version 2) with `row` (from 0), the result columns as strings, and the columns
      `q_embedding` and, for pairs, `d_embedding`, lists of a fixed size. `pyarrow.feather.read_table`,
      `polars.read_ipc` and `datasets` read it. Without rows it has no columns of vectors.
    - npy: one array [rows, size], for pairs [rows, 2, size], for `numpy.load`, which can map it into memory.
    """

    fits = frozenset({"embedding"})
    extension = ".arrow"

    embedding_format: Literal["arrow", "npy"] = "arrow"
    """The format of the file."""

    def __post_init__(self) -> None:
        vars(self)["extension"] = f".{self.embedding_format}"

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        given = scene.values["result_header"].value
        if self.embedding_format == "npy" and given:
            raise SceneError(
                f"embedding_format = 'npy' has no place for the columns of result_header ({','.join(given)}); "
                "leave result_header out, or write arrow"
            )
        return ()

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        if self.embedding_format == "npy":
            return ("q_embedding", "d_embedding")
        names = ("row", *result_columns, "q_embedding", "d_embedding")
        for name in result_columns:
            if names.count(name) > 1:
                raise SceneError(f"result_header: column '{name}' has the name of a column of vectors; rename it")
        return names

    def format(self, predictions: Predictions) -> list[bytes]:
        import numpy as np

        vectors = np.stack([predictions.vectors[side] for side in sorted(predictions.vectors, reverse=True)], axis=1)
        names = list(predictions.columns)
        cells = zip(*predictions.columns.values(), strict=True) if names else iter(lambda: (), None)
        made = []
        for number, texts, numbers in zip(predictions.rows.tolist(), cells, vectors, strict=False):
            # each row tells all, as the rank that assembles may not have seen any
            head = {"row": number, "shape": numbers.shape, "columns": dict(zip(names, texts, strict=True))}
            made.append(json.dumps(head).encode() + b"\n" + numbers.astype("<f4").tobytes())
        return made

    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        read = map(_read, rows)
        if self.embedding_format == "npy":
            _write_npy(read, count, file)
        else:
            _write_arrow(read, file)

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The vectors are float32 arrays [size]."""
        head, numbers = _read(row)
        sides = zip(("q_embedding", "d_embedding"), numbers, strict=False)
        return [{"row": head["row"], **head["columns"], **dict(sides)}]


def _read(row: bytes) -> Row:
    import numpy as np

    head, _, numbers = row.partition(b"\n")
    facts = json.loads(head)
    return facts, np.frombuffer(numbers, "<f4").reshape(facts["shape"])


def _write_npy(rows: Iterator[Row], count: int, file: IO[bytes]) -> None:
    import numpy as np

    first = next(rows, None)
    sides, size = (1, 0) if first is None else first[1].shape
    shape = (count, size) if sides == 1 else (count, sides, size)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    if first is not None:
        file.write(first[1].tobytes())
    for _, numbers in rows:
        file.write(numbers.tobytes())


def _write_arrow(rows: Iterator[Row], file: IO[bytes]) -> None:
    import pyarrow as pa

    writer = None
    while block := list(islice(rows, BLOCK)):
        batch = _record_batch(block)
        writer = writer or pa.ipc.new_file(file, batch.schema)
        writer.write_batch(batch)
    (writer or pa.ipc.new_file(file, pa.schema([("row", pa.int64())]))).close()


def _record_batch(block: list[Row]) -> Any:
    """Rows as an Arrow record batch."""
    import numpy as np
    import pyarrow as pa

    arrays: dict[str, Any] = {"row": pa.array([head["row"] for head, _ in block], pa.int64())}
    for name in block[0][0]["columns"]:
        arrays[name] = pa.array([head["columns"][name] for head, _ in block], pa.string())
    numbers = np.stack([numbers for _, numbers in block])
    for side, name in enumerate(("q_embedding", "d_embedding")[: numbers.shape[1]]):
        flat = pa.array(np.ascontiguousarray(numbers[:, side]).ravel())
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, numbers.shape[2])
    return pa.record_batch(arrays)
