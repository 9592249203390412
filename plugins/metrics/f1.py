"""F1: the harmonic mean of precision and recall, macro, micro and of the positive class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .acc import decisions, truth

if TYPE_CHECKING:
    import numpy as np


@metric("f1")
@dataclass
class F1(Metric):
    """F1 from 0 to 1, equal to `sklearn.metrics.f1_score`; a class of several is chosen by a probability above 0.5.

    `f1_macro`: mean over the classes; in single-label those that are true or chosen in some row. `f1_micro`: of all
    decisions together. `f1_binary`, where there are two classes: that of class 1. A class that is never true and never
    chosen has 0. No rows: nan.
    """

    fits = frozenset({"single_label_classification", "multi_label_classification"})

    def keys(self) -> tuple[str, ...]:
        return ("f1_macro", "f1_micro")

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        chosen, true = decisions(predictions), truth(predictions)
        assert predictions.scores is not None, "a classifier gives scores"
        classes = max(predictions.scores.shape[1], 2 if true.ndim == 1 else 1)
        return {"chosen": chosen, "true": true, "classes": np.full(len(true), classes, dtype=np.int32)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        import numpy as np

        if not state or not len(state["true"]):
            return dict.fromkeys(self.keys(), float("nan"))
        chosen, true = state["chosen"], state["true"]
        if true.ndim == 2:
            right, picked, real = (chosen & true).sum(axis=0), chosen.sum(axis=0), true.sum(axis=0)
            return {"f1_macro": float(_f1(right, picked, real).mean()), "f1_micro": _micro(right, picked, real)}
        classes = int(state["classes"][0])
        # One more place for the choice of a row whose scores are nan (-1), which is wrong and belongs to no class.
        right, picked, real = (
            np.bincount(which, minlength=classes + 1)[:classes]
            for which in (true[chosen == true], chosen % (classes + 1), true)
        )
        each = _f1(right, picked, real)
        scores = {"f1_macro": float(each[picked + real > 0].mean()), "f1_micro": float((chosen == true).mean())}
        return {**scores, "f1_binary": float(each[1])} if classes == 2 else scores


def _f1(right: np.ndarray, picked: np.ndarray, real: np.ndarray) -> np.ndarray:
    """2·right / (picked + real) of each class, 0 where both are 0."""
    import numpy as np

    each: np.ndarray = 2 * right / np.maximum(picked + real, 1)
    return each


def _micro(right: np.ndarray, picked: np.ndarray, real: np.ndarray) -> float:
    return float(2 * right.sum() / max(picked.sum() + real.sum(), 1))
