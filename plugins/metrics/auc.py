"""Macro AUC: the area under the ROC curve, averaged over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric

if TYPE_CHECKING:
    import numpy as np


@metric("auc")
@dataclass
class Auc(Metric):
    """Area under the ROC curve, macro average over the classes, equal to `sklearn.metrics.roc_auc_score`.

    One or two logits: the area of class 1. More classes: each against the rest, by softmax. Multi-label: each class by
    its own logit. A class that no row has, or that every row has, has no area and is left out of the average; nan when
    that leaves none, when there are no rows, or when a score is nan.
    """

    fits = frozenset({"single_label_classification", "multi_label_classification"})

    def keys(self) -> tuple[str, ...]:
        return ("auc",)

    def update(self, predictions: Predictions) -> State:
        assert predictions.scores is not None, "a classifier gives scores"
        assert predictions.labels is not None, "rows that are scored have labels"
        return {"scores": predictions.scores, "labels": predictions.labels}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"auc": mean_of_defined(areas(state))}


def mean_of_defined(values: np.ndarray) -> float:
    """The mean of the values that are not nan; nan when there is none."""
    import numpy as np

    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def areas(state: State) -> np.ndarray:
    """The area of each class [classes] float64, nan where it is not defined; of no class when there are no rows."""
    import numpy as np

    if not state or not len(state["labels"]):
        return np.zeros(0)
    scores, labels = state["scores"].astype(np.float64), state["labels"]
    if np.isnan(scores).any():
        return np.full(max(scores.shape[1], 2 if labels.ndim == 1 else 1), np.nan)
    if labels.ndim == 2:
        truth = labels > 0.5
    else:
        # The difference of two logits ranks as their softmax does, but never saturates.
        if scores.shape[1] == 1:
            scores = np.hstack([-scores, scores])
        elif scores.shape[1] == 2:
            scores = scores - scores[:, ::-1]
        else:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        truth = labels[:, None] == np.arange(scores.shape[1])
    return np.array([_area(scores[:, index], truth[:, index]) for index in range(scores.shape[1])])


def _area(scores: np.ndarray, truth: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order, ties a half: the Mann-Whitney U statistic."""
    import numpy as np

    positives = int(np.count_nonzero(truth))
    pairs = positives * (len(truth) - positives)
    if pairs == 0:
        return float("nan")
    _, position, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[position[truth]].sum() - positives * (positives + 1) / 2) / pairs)
