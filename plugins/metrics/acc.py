"""Accuracy: the share of rows whose class, or whose whole set of classes, is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric

if TYPE_CHECKING:
    import numpy as np


@metric("acc")
@dataclass
class Accuracy(Metric):
    """Share of rows that are right, from 0 to 1.

    Single-label: the class with the highest score is the true one (the lower index where two are equal; with one logit,
    class 1 where the logit is above 0). Multi-label: every class of the row is decided rightly, as in
    `sklearn.metrics.accuracy_score`; a class is chosen where its logit is above 0, a probability above 0.5.
    A row with a score that is nan is wrong. No rows: nan.
    """

    fits = frozenset({"single_label_classification", "multi_label_classification"})

    def keys(self) -> tuple[str, ...]:
        return ("acc",)

    def update(self, predictions: Predictions) -> State:
        return {"hit": hits(predictions)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"acc": float(state["hit"].mean()) if state and len(state["hit"]) else float("nan")}


def decisions(predictions: Predictions) -> np.ndarray:
    """The chosen class [rows] int64 (-1 where a score is nan), or the chosen classes [rows, classes] bool."""
    import numpy as np

    scores = predictions.scores
    assert scores is not None, "a classifier gives scores"
    if predictions.problem == "multi_label_classification":
        return scores > 0
    chosen = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0)
    return np.where(np.isnan(scores).any(axis=1), -1, chosen.astype(np.int64))


def truth(predictions: Predictions) -> np.ndarray:
    """The true class of each row [rows] int64, or its true classes [rows, classes] bool."""
    import numpy as np

    labels = predictions.labels
    assert labels is not None, "rows that are scored have labels"
    return labels > 0.5 if predictions.problem == "multi_label_classification" else labels.astype(np.int64)


def hits(predictions: Predictions) -> np.ndarray:
    """Whether each row is right [rows] bool."""
    import numpy as np

    assert predictions.scores is not None, "a classifier gives scores"
    right: np.ndarray = np.equal(decisions(predictions), truth(predictions))
    right = right.min(axis=1) if right.ndim == 2 else right
    right &= ~np.isnan(predictions.scores).any(axis=1)
    return right
