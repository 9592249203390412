"""Pearson correlation of a regression with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric


@metric("pearson")
@dataclass
class Pearson(Metric):
    """Pearson's r between scores and labels, from -1 to 1, equal to `scipy.stats.pearsonr`.

    With several values a row: the mean of the r of each. A value that is the same in all rows has no r and is left out;
    nan when that leaves none, or with fewer than two rows.
    """

    fits = frozenset({"regression"})

    def keys(self) -> tuple[str, ...]:
        return ("pearson",)

    def update(self, predictions: Predictions) -> State:
        assert predictions.scores is not None, "a regression gives scores"
        assert predictions.labels is not None, "rows that are scored have labels"
        return {"scores": predictions.scores, "labels": predictions.labels.reshape(predictions.scores.shape)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        import numpy as np

        if not state or len(state["scores"]) < 2:
            return {"pearson": float("nan")}
        # The first row is taken off before the mean is: a constant is then exactly 0, whatever its size.
        x, y = ((a - a[:1]) - (a - a[:1]).mean(axis=0) for a in (s.astype(np.float64) for s in state.values()))
        length = np.sqrt((x**2).sum(axis=0)) * np.sqrt((y**2).sum(axis=0))
        defined = length > 0
        if not defined.any() or np.isnan(length).any():
            return {"pearson": float("nan")}
        each = (x * y).sum(axis=0)[defined] / length[defined]
        return {"pearson": float(np.clip(each, -1, 1).mean())}
