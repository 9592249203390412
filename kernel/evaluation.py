"""Evaluation and prediction: a model's answers for every row of a split, exact over any number of ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .contracts import Batch, Metric, Model, Predictions, Problem, State
from .errors import DeepgenError, PluginError, RunError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .engine import Engine
    from .events import EventStream
    from .results import ResultFile


class Rows(Protocol):
    """The rows of a split: features, or a stream of them."""

    @property
    def row_numbers(self) -> Any:
        """Indexed by the indices of a batch, it gives their numbers in the input."""
        ...

    @property
    def expected(self) -> np.ndarray | None:
        """The row numbers that an answer must be given for, where they are known beforehand."""
        ...

    def __len__(self) -> int: ...

    def columns(self, names: Sequence[str], rows: np.ndarray) -> dict[str, list[str]]:
        """The text of columns that were kept, for the indices of a batch."""
        ...


@dataclass
class Evaluation:
    """What an evaluation found, the same on every rank."""

    scores: dict[str, float]
    """`eval_loss`, then `eval_<key>` of each metric."""
    rows: int
    seconds: float
    predictions: dict[str, Any] = field(default_factory=dict)
    """On rank 0, for the pictures: `scores` and `labels` arrays in row order, where the model gives scores."""


@dataclass
class Evaluator:
    """Everything that evaluating and predicting have in common."""

    engine: Engine
    model: Model
    problem: Problem
    class_names: tuple[str, ...]
    events: EventStream
    reference: str | None = None
    """The column that holds the true text. Tokens would not do: they may be cut, or unknown to the tokenizer."""

    def evaluate(
        self, features: Rows, batches: Iterable[tuple[Batch, np.ndarray]], metrics: Sequence[Metric]
    ) -> Evaluation:
        """Teacher-forced loss and every metric over all rows.

        Batches are the same whatever the number of ranks, and sums and rows are put in input order before anything is
        computed from them, so that the scores do not depend on the number of ranks, to the last bit.
        """
        import torch

        begin = time.monotonic()
        self.events.stage("eval", total=len(features), unit="rows")
        count = self.events.counter("eval")
        losses: list[tuple[int, float, int]] = []
        states: list[list[State]] = [[] for _ in metrics]
        kept: list[State] = []
        rows: list[np.ndarray] = []
        done = 0
        module = self.engine.module
        module.eval()
        generate = self.problem == "text" and bool(metrics)
        with torch.no_grad():
            for batch, indices in batches:
                on_device = self.engine.to_device(batch)
                loss = self.model.loss(module, on_device)
                answers = self.model.predict(module, on_device) if generate else loss.outputs
                if len(indices) == 0:
                    continue
                losses.append((int(indices[0]), float(loss.total), loss.count))
                predictions = self._predictions(features, indices, batch, answers)
                if self.problem == "text" and self.reference is not None and _labels(batch, answers) is not None:
                    predictions.references = features.columns([self.reference], indices)[self.reference]
                for metric, collected in zip(metrics, states, strict=True):
                    with _named(metric):
                        collected.append(metric.update(predictions))
                rows.append(predictions.rows)
                if predictions.scores is not None and predictions.labels is not None:
                    kept.append({"scores": predictions.scores, "labels": predictions.labels})
                done += len(indices)
                count(min(done * self.engine.ranks, len(features)), len(features))
        module.train()
        scores, pictures = self._compute(metrics, losses, states, kept, rows)
        return Evaluation(scores, len(features), time.monotonic() - begin, pictures)

    def _compute(
        self,
        metrics: Sequence[Metric],
        losses: Sequence[tuple[int, float, int]],
        states: Sequence[Sequence[State]],
        kept: Sequence[State],
        rows: Sequence[np.ndarray],
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Joins what the ranks have kept on rank 0, in row order; every rank gets the scores."""
        import numpy as np

        merged = [_merged(metric, parts) for metric, parts in zip(metrics, states, strict=True)]
        mine = (losses, merged, _concatenate(kept), np.concatenate(rows) if rows else np.empty(0, np.int64))
        gathered = self.engine.gather(mine)
        scores: dict[str, float] = {}
        pictures: dict[str, Any] = {}
        if gathered is not None:
            parts = sorted(part for rank_losses, *_ in gathered for part in rank_losses)
            total = sum(count for _, _, count in parts)
            scores["eval_loss"] = math.fsum(loss for _, loss, _ in parts) / total if total else math.nan
            order = np.argsort(np.concatenate([rank_rows for *_, rank_rows in gathered]), kind="stable")
            for position, metric in enumerate(metrics):
                present = [rank_merged[position] for _, rank_merged, _, _ in gathered if rank_merged[position]]
                state = _ordered(_merged(metric, present), order)
                with _named(metric):
                    found = {key: float(value) for key, value in metric.compute(state, self.class_names).items()}
                declared = metric.keys()
                if absent := [key for key in declared if key not in found]:
                    words = f"did not give '{absent[0]}', which it declares; it gave {', '.join(found) or 'nothing'}"
                    raise PluginError(f"metric '{metric.name}' {words}")
                scores.update({f"eval_{key}": value for key, value in found.items()})
            pictures = _ordered(_concatenate([part for _, _, part, _ in gathered if part]), order)
        return self.engine.broadcast(scores), pictures

    def predict(
        self,
        features: Rows,
        batches: Iterable[tuple[Batch, np.ndarray]],
        result: ResultFile,
        columns: Sequence[str],
    ) -> int:
        """Writes the answer of every row through `result`, which merges the ranks; returns the number of rows.

        Args:
            columns: the columns of the input that each result row opens with.
        """
        import torch

        begin = time.monotonic()
        self.events.stage("predict", total=len(features), unit="rows", detail=result.path)
        count = self.events.counter("predict")
        done = 0
        module = self.engine.module
        module.eval()
        result.open()
        try:
            with torch.no_grad():
                for batch, indices in batches:
                    answers = self.model.predict(module, self.engine.to_device(batch))
                    if len(indices) == 0:
                        continue
                    result.write(self._predictions(features, indices, batch, answers, columns))
                    done += len(indices)
                    count(min(done * self.engine.ranks, len(features)), len(features))
            rows = result.commit(self.engine.gather, self.engine.barrier, features.expected)
        except BaseException:
            result.abort()
            raise
        seconds = time.monotonic() - begin
        self.events.predicted(result.path, rows=len(features), rows_per_second=len(features) / max(seconds, 1e-9))
        return rows

    def _predictions(
        self,
        features: Rows,
        indices: np.ndarray,
        batch: Batch,
        answers: Mapping[str, Any],
        columns: Sequence[str] = (),
    ) -> Predictions:
        labels = _labels(batch, answers)
        made = predictions_of(features.row_numbers[indices], self.problem, answers, self.class_names)
        if labels is not None and self.problem != "text":
            made.labels = labels.cpu().numpy()
        if columns:
            made.columns = features.columns(columns, indices)
        return made


@contextmanager
def _named(metric: Metric) -> Iterator[None]:
    """What a metric raises is told with its name."""
    try:
        yield
    except DeepgenError:
        raise
    except (Exception, SystemExit) as error:
        raise RunError(f"metric '{metric.name}' failed: {type(error).__name__}: {error}") from error


def _merged(metric: Metric, states: Sequence[State]) -> State:
    with _named(metric):
        return metric.merge(states) if states else {}


def _labels(batch: Batch, answers: Mapping[str, Any]) -> Any:
    return answers.get("labels", batch.get("labels"))


def predictions_of(
    rows: np.ndarray, problem: Problem, answers: Mapping[str, Any], class_names: tuple[str, ...]
) -> Predictions:
    """A model's answers for some rows, for metrics and outputters, without what the input knows of the rows."""
    scores = answers.get("scores")
    return Predictions(
        rows=rows,
        problem=problem,
        scores=_array(scores) if scores is not None else None,
        texts=answers.get("texts"),
        vectors={side: _array(vectors) for side, vectors in answers.get("vectors", {}).items()},
        class_names=class_names,
        more={name: _array(value) for name, value in answers.items() if name not in NAMED},
    )


NAMED = ("scores", "texts", "vectors", "labels")
"""Answers that have a place of their own in Predictions."""


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor for numpy, which has no bfloat16."""
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array


def _ordered(state: State, order: np.ndarray) -> State:
    """Puts rows into input order; an array of another length (a metric that adds up) is left as it is."""
    return {key: array[order] if len(array) == len(order) else array for key, array in state.items()}


def _concatenate(states: Sequence[State]) -> State:
    import numpy as np

    return {key: np.concatenate([state[key] for state in states]) for key in states[0]} if states else {}
