"""Metric `my_metric`: how often a classifier is both sure and right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from deepgen.kernel.contracts import Metric, Predictions, State
from deepgen.kernel.options import Range
from deepgen.kernel.registry import metric


@metric("my_metric")
@dataclass
class MyMetric(Metric):
    """Share of rows whose true class has at least the probability `sure_from`. No rows: nan."""

    fits = frozenset({"single_label_classification"})

    sure_from: Annotated[float, Range(0, 1)] = 0.8
    """The least probability that counts."""

    def keys(self) -> tuple[str, ...]:
        return ("my_metric",)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        assert predictions.scores is not None, "a classifier gives scores"
        assert predictions.labels is not None, "rows that are scored have labels"
        scores = predictions.scores
        if scores.shape[1] == 1:  # one logit is that of class 1
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        truth = predictions.labels.astype(np.int64)[:, None]
        probability = np.take_along_axis(raised / raised.sum(axis=1, keepdims=True), truth, axis=1)[:, 0]
        return {"hit": probability >= self.sure_from}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"my_metric": float(state["hit"].mean()) if state else float("nan")}
