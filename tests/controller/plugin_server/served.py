"""Plugins that tests serve: mistakes of every kind, slow calls, and one of each kind of plugin."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import BadRow, BadRows, Field, Metric, Outputter, Predictions, Processor, State
from deepgen.kernel.errors import DataError, PluginError, SceneError
from deepgen.kernel.options import Range
from deepgen.kernel.registry import metric, outputter, processor


class Odd(DataError):
    """A kind of DataError."""


@processor("measure")
@dataclass
class Measure(Processor):
    """The length of a text, in a unit."""

    unit: Annotated[float, Range(0.5)] = 1.0
    """Characters of one."""
    names: tuple[str, ...] = ("a", "b")
    """Of classes."""
    mode: Literal["plain", "odd", "mistake", "leave"] = "plain"
    """How it goes wrong."""

    def fields(self) -> tuple[Field, ...]:
        return (
            Field(self.output, "float32"),
            Field("letters", "int64", "ragged", padding=7, mask="there", length=True),
        )

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        if self.mode == "odd":
            raise Odd("the first line\nand the second")
        if self.mode == "mistake":
            return {"letters": pa.array([1, 2, 3])}
        if self.mode == "leave":
            raise SystemExit(3)
        texts = columns[0].to_pylist()
        if bad := [row for row, text in enumerate(texts) if text == "bad"]:
            raise BadRows([BadRow(row, self.inputs[0], "bad", "is bad") for row in bad])
        self.count_cut(self.output, np.array([len(text) > 10 for text in texts]))
        letters = [[ord(letter) for letter in text[:10]] for text in texts]
        lengths = pc.divide(pc.cast(pc.utf8_length(columns[0]), pa.float32()), self.unit)
        return {self.output: lengths.cast(pa.float32()), "letters": pa.array(letters, pa.list_(pa.int64()))}

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        picked = [row[: int(key % 3)] for row, key in zip(rows["letters"], keys, strict=True)]
        return {"letters": picked, self.output: rows[self.output] * 2}

    def class_names(self) -> tuple[str, ...]:
        return self.names

    def reference_column(self) -> str | None:
        return self.inputs[0]

    def check(self, scene: Any, splits: Sequence[Any]) -> Sequence[str]:
        if scene.values["seed"].value == 13:
            raise SceneError("seed is unlucky")
        if scene.values["seed"].value == 14:
            raise PluginError("package lucky is not installed")
        return [f"{scene.name}: {','.join(splits)}", scene.where("unit")]


@processor("copy")
@dataclass
class Copy(Processor):
    """The text as it is."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "string"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: columns[0]}


@processor("slow")
@dataclass
class Slow(Processor):
    """Takes its time, alone."""

    seconds: float = 0.2
    """How long."""
    begun: str = ""
    """A file that is there once it has begun."""
    _busy = False

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        assert not self._busy, "called twice at a time"
        self._busy = True
        if self.begun:
            Path(self.begun).touch()
        time.sleep(self.seconds)
        self._busy = False
        return {self.output: pc.utf8_length(columns[0]).cast(pa.int64())}


@metric("share")
@dataclass
class Share(Metric):
    """The share of rows whose first score is above the second; states are sums."""

    fits = frozenset({"single_label_classification"})

    def keys(self) -> tuple[str, ...]:
        return ("share", "none")

    def update(self, predictions: Predictions) -> State:
        assert predictions.scores is not None
        predictions.scores[np.isnan(predictions.scores)] = 0  # a plugin may change what it is given
        hits = predictions.scores[:, 0] > predictions.scores[:, 1]
        return {"hits": np.array([hits.sum()]), "rows": np.array([len(hits)])}

    def merge(self, states: Sequence[State]) -> State:
        return {name: sum((state[name] for state in states), np.zeros(1, np.int64)) for name in ("hits", "rows")}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"share": float(state["hits"][0] / state["rows"][0]), "none": float("nan")}


@outputter("lines")
@dataclass
class Lines(Outputter):
    """A line for each row."""

    fits = frozenset({"single_label_classification"})

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, problem)

    def format(self, predictions: Predictions) -> list[str]:
        return [f"{text}\t{row}\n" for text, row in zip(predictions.columns["text"], predictions.rows, strict=True)]


@outputter("asks")
@dataclass
class Asks(Lines):
    """Looks at the other plugins of the scene."""

    def check(self, scene: Any, splits: Sequence[Any]) -> Sequence[str]:
        return [one.name for split in splits for one in scene.processors(split)]


@outputter("backwards")
@dataclass
class Backwards(Outputter):
    """All rows, with their count ahead, the last one first."""

    fits = frozenset({"single_label_classification"})
    extension = ".bin"

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ("row",)

    def format(self, predictions: Predictions) -> list[bytes]:
        return [bytes([int(row)]) for row in predictions.rows]

    def assemble(self, rows: Any, count: int, file: IO[bytes]) -> None:
        file.write(b"????")
        file.write(b"".join(reversed(list(rows))))
        file.seek(0)
        file.write(f"{count:04}".encode())

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        return [{"row": np.float32(row[0]), "all": np.array([row[0]])}]
