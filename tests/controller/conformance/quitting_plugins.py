"""Plugins that end the process in the middle of a call: a file for `deepgen plugin check`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from deepgen.kernel.contracts import Field, Metric, Outputter, Predictions, Processor, State
from deepgen.kernel.registry import metric, outputter, processor


class Panic(BaseException):
    """As that of a library in Rust, which is no Exception."""


@processor("quits")
@dataclass
class Quits(Processor):
    """Quits over rows."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        sys.exit(0)


@processor("quits_later")
@dataclass
class QuitsLater(Quits):
    """Quits when an instance of a scene's columns says its class names."""

    def class_names(self) -> tuple[str, ...]:
        sys.exit(0)


@processor("panics")
@dataclass
class Panics(Quits):
    """Panics over rows."""

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        raise Panic("index out of bounds")


@metric("quits")
@dataclass
class NeverScores(Metric):
    """Quits with code 3 over a state."""

    fits = frozenset({"regression"})

    def keys(self) -> tuple[str, ...]:
        return ("quits",)

    def update(self, predictions: Predictions) -> State:
        return {}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        sys.exit(3)


@outputter("quits")
@dataclass
class NeverWrites(Outputter):
    """Quits over predictions."""

    fits = frozenset({"regression"})

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ("row",)

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        sys.exit(0)
