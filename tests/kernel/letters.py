"""A plugin for the tests of the data path: letters as token ids, without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from deepgen.kernel.contracts import BadRow, BadRows, Field, Processor
from deepgen.kernel.drawing import uniform
from deepgen.kernel.registry import processor


@processor("letters")
@dataclass
class Letters(Processor):
    """Code points of a column; a text with `!` cannot be read."""

    most_letters: int = 100
    """Longer texts are cut."""

    def fields(self) -> tuple[Field, ...]:
        return (Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        texts = columns[0].to_pylist()
        bad = [
            BadRow(row, self.inputs[0], text, "has an exclamation mark")
            for row, text in enumerate(texts)
            if "!" in text
        ]
        if bad:
            raise BadRows(bad)
        self.count_cut("input_ids", np.array([len(text) > self.most_letters for text in texts]))
        return {
            "input_ids": pa.array([[ord(c) for c in text[: self.most_letters]] for text in texts], pa.list_(pa.int64()))
        }


@processor("broken")
@dataclass
class Broken(Processor):
    """Fails on the text `boom`, and breaks the contract on others."""

    def fields(self) -> tuple[Field, ...]:
        return (Field("broken", "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        texts = columns[0].to_pylist()
        if "boom" in texts:
            raise KeyError("boom")
        if "the end" in texts:
            raise SystemExit(0)
        if "nothing" in texts:
            return {}
        if "without words" in texts:
            raise BadRows([BadRow(texts.index("without words"), "", "", "")])
        if "of others" in texts:
            raise BadRows([BadRow(len(texts), self.inputs[0], "of others", "is bad")])
        return {"broken": pa.array(range(len(columns[0])), pa.int64())}


@processor("numbers")
@dataclass
class Numbers(Processor):
    """Numbers divided by commas, however many."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "float32", "fixed"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        numbers = [[float(part) for part in text.split(",")] for text in columns[0].to_pylist()]
        return {self.output: pa.array(numbers, pa.list_(pa.float32()))}


@processor("veiled")
@dataclass
class Veiled(Letters):
    """Letters of which some are drawn to be 0; `veil` tells which."""

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("veil", "int64", "ragged", padding=-1))

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        lengths = np.array([len(row) for row in rows["input_ids"]])
        veils = np.split((uniform(keys, lengths) < 0.5).astype(np.int32), np.cumsum(lengths)[:-1])
        return {
            "input_ids": [row * (1 - veil) for row, veil in zip(rows["input_ids"], veils, strict=True)],
            "veil": veils,
        }


@processor("odd_draw")
@dataclass
class OddDraw(Letters):
    """Draws what it does not declare, or ends the program."""

    ends: bool = False
    """Ends it."""

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        if self.ends:
            raise SystemExit(0)
        return {"veil": keys}
