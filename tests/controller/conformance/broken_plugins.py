"""Plugins that each break one rule: a file for `deepgen plugin check`. BROKEN says which check finds it."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import BadRow, BadRows, Field, Metric, Outputter, Predictions, Processor, State
from deepgen.kernel.registry import metric, outputter, processor

BROKEN: dict[str, str] = {}
"""The check that each plugin fails, by its title; it may fail others, too."""
COUNTER = itertools.count()
KEPT: list[Any] = []


class Length(Processor):
    """The length of a text; a row that says `?` is bad."""

    def fields(self) -> tuple[Field, ...]:
        return (Field(self.output, "int64"),)

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        bad = pc.indices_nonzero(pc.equal(columns[0], "?")).to_pylist()
        if bad:
            raise BadRows([BadRow(row, self.inputs[0], "?", "is no text") for row in bad])
        return {self.output: pc.cast(pc.utf8_length(columns[0]), pa.int64())}


class Hits(Metric):
    """How often a regression is below its label."""

    fits = frozenset({"regression"})

    def keys(self) -> tuple[str, ...]:
        return ("hits",)

    def update(self, predictions: Predictions) -> State:
        assert predictions.scores is not None
        return {"hit": (predictions.scores[:, 0] < predictions.labels).astype(np.float64)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"hits": float(state["hit"].mean()) if state and len(state["hit"]) else float("nan")}


class Lines(Outputter):
    """The result columns and the first score."""

    fits = frozenset({"regression"})

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "score")

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        from deepgen.kernel.lines import ESCAPES

        assert predictions.scores is not None
        table = str.maketrans(ESCAPES)
        cells = [[text.translate(table) for text in texts] for texts in predictions.columns.values()]
        scores = [str(score) for score in predictions.scores[:, 0].tolist()]
        return ["\t".join(row) + "\n" for row in zip(*cells, scores, strict=True)]


def breaks(check: str) -> Any:
    """Registers a class under a name made from the check that finds it."""

    def register(plugin: type) -> type:
        name = check.replace(".", "_")
        plugin.__doc__ = f"Breaks {check}."
        decorator = next(d for kind, d in KINDS.items() if issubclass(plugin, kind))
        BROKEN[f"{decorator.__name__} {name}"] = check
        made: type = decorator(name)(dataclass(plugin))
        return made

    return register


KINDS: dict[type, Any] = {Processor: processor, Metric: metric, Outputter: outputter}


@breaks("processor.split_invariance")
class CountsRows(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: pa.array([len(columns[0])] * len(columns[0]))}


@breaks("processor.fields")
class GivesTexts(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: columns[0]}


@breaks("processor.repeatable")
class Changes(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: pa.array([next(COUNTER)] * len(columns[0]))}


@breaks("processor.class_names")
class Renames(Length):
    def class_names(self) -> tuple[str, ...]:
        return ("no", f"yes {next(COUNTER)}")


@breaks("processor.bad_rows")
class NamesTheNext(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        try:
            return super().process(columns)
        except BadRows as error:
            raise BadRows([BadRow(bad.row + 1, bad.column, bad.value, bad.reason) for bad in error.rows]) from None


@breaks("processor.odd_texts")
class PlainOnly(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        return {self.output: pa.array([len(text.encode("ascii")) for text in columns[0].to_pylist()])}


@breaks("processor.long_text")
class ShortOnly(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        if pc.max(pc.utf8_length(columns[0])).as_py() > 5000:
            raise ValueError("too long")
        return super().process(columns)


class Draws(Length):
    """Also a number that is drawn."""

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        return {self.output: (keys % np.uint64(97)).astype(np.int64)}


@breaks("draw.keys_alone")
class DrawsByPlace(Draws):
    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        return {self.output: np.arange(len(keys)) + next(COUNTER)}


@breaks("draw.other_keys")
class DrawsNothing(Draws):
    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        return {self.output: np.zeros(len(keys), np.int64)}


@breaks("draw.declared")
class DrawsAnother(Draws):
    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        return {"surprise": (keys % np.uint64(97)).astype(np.int64)}


@breaks("leak.batches")
class Keeps(Length):
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        KEPT.append(mmap.mmap(-1, 1 << 12))  # not of the heap, where there may be room
        KEPT[-1].write(b"x")
        return super().process(columns)


@breaks("metric.split_invariance")
class MeanOfMeans(Hits):
    def update(self, predictions: Predictions) -> State:
        return {"hit": np.full(1, super().update(predictions)["hit"][:1].sum())}


@breaks("metric.merge_order")
class FirstCounts(Hits):
    def merge(self, states: Sequence[State]) -> State:
        return {"hit": np.concatenate([*(state["hit"] for state in states), states[0]["hit"][:1]])}


@breaks("metric.merge_grouping")
class HalfAtATime(Hits):
    def merge(self, states: Sequence[State]) -> State:
        return {"hit": np.full(1, np.mean([state["hit"].mean() for state in states]))}


@breaks("metric.pure")
class AddsInPlace(Hits):
    def update(self, predictions: Predictions) -> State:
        hit = super().update(predictions)["hit"]
        return {"hit": np.array([hit.sum(), len(hit)])}

    def merge(self, states: Sequence[State]) -> State:
        for state in states[1:]:
            states[0]["hit"] += state["hit"]
        return states[0]

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"hits": float(state["hit"][0] + next(COUNTER)) if state else float("nan")}


@breaks("metric.keys")
class OtherKeys(Hits):
    def keys(self) -> tuple[str, ...]:
        return ("misses", "hits")


@breaks("metric.no_rows")
class NeedsRows(Hits):
    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"hits": float(state["hit"].mean())}


@breaks("metric.odd_numbers")
class FiniteOnly(Hits):
    def update(self, predictions: Predictions) -> State:
        assert predictions.scores is not None
        if not np.isfinite(predictions.scores).all():
            raise ValueError("a score is not finite")
        return super().update(predictions)


@breaks("metric.state_round_trip")
class Complex(Hits):
    def update(self, predictions: Predictions) -> State:
        return {"hit": super().update(predictions)["hit"].astype(np.complex64)}


@breaks("outputter.split_invariance")
class Numbered(Lines):
    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [f"{place}\n" for place in range(len(predictions.rows))]


@breaks("outputter.whole_lines")
class NoNewline(Lines):
    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [str(row) for row in predictions.rows]


@breaks("outputter.columns")
class Nameless(Lines):
    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ()


@breaks("outputter.read")
class ReadsOther(Lines):
    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        return [{"query": "something else"}]


@breaks("outputter.odd_texts")
class Unescaped(Lines):
    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [f"{text}\tx\t1\n" for text in predictions.columns["query"]]


@breaks("outputter.odd_numbers")
class WholeNumbers(Lines):
    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        assert predictions.scores is not None
        return [f"{int(score)}\n" for score in predictions.scores[:, 0]]


@breaks("outputter.class_names")
class NeedsNames(Lines):
    fits = frozenset({"single_label_classification"})

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        assert predictions.scores is not None
        return [predictions.class_names[place] + "\n" for place in predictions.scores.argmax(axis=1)]


@breaks("outputter.assemble")
class Stamped(Lines):
    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        file.write(f"{next(COUNTER)}\n".encode())
        file.writelines(rows)


@breaks("commit.file")
class Remembers(Lines):
    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [f"{row} {len(predictions.rows)}\n" for row in predictions.rows]


@breaks("describe.options")
class Undocumented(Hits):
    threshold: float = 0.5


@breaks("describe.kind")
class FitsNothing(Hits):
    fits = frozenset()
