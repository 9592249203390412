"""What a classifier's raw scores say of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exchange import Predictions

if TYPE_CHECKING:
    import numpy as np


def probabilities(predictions: Predictions) -> np.ndarray:
    """[rows, classes] float32: softmax of single-label logits, sigmoid of multi-label or lone ones, or raw values."""
    import numpy as np

    assert predictions.scores is not None, "these problems have scores"
    if predictions.problem == "regression":
        return predictions.scores
    scores = predictions.scores.astype(np.float64)
    with np.errstate(over="ignore"):
        if predictions.problem == "multi_label_classification" or scores.shape[1] == 1:
            scores = 1 / (1 + np.exp(-scores))
        else:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
    return scores.astype(np.float32)
