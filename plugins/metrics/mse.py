"""Mean squared error of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric


@metric("mse")
@dataclass
class MeanSquaredError(Metric):
    """Mean of the squared differences, over rows and values, in the labels' own unit squared. No rows: nan."""

    fits = frozenset({"regression"})
    higher_is_better = False

    def keys(self) -> tuple[str, ...]:
        return ("mse",)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        assert predictions.scores is not None, "a regression gives scores"
        assert predictions.labels is not None, "rows that are scored have labels"
        scores = predictions.scores.astype(np.float64)
        return {"squared": ((scores - predictions.labels.reshape(scores.shape)) ** 2).mean(axis=1)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"mse": float(state["squared"].mean()) if state and len(state["squared"]) else float("nan")}
