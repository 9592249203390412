"""Recall at k of a retrieval: how often a query's own document is among the k nearest of all documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric

if TYPE_CHECKING:
    import numpy as np

BLOCK = 1024
"""Queries that are compared with all documents at once."""


@metric("recall_at_k")
@dataclass
class RecallAtK(Metric):
    """Share of rows, from 0 to 1, whose document is among the k nearest to its query by cosine.

    The candidates are the documents of all rows of the evaluation, each row's own being the one that is right. Where
    another document is exactly as near, the right one counts as the farther one, so that vectors that are all alike
    score 0; the same document in two rows is therefore missed at k = 1. A row whose vectors hold nan is missed.
    No rows: nan. All vectors are kept until the end: 3 kB a row and side for 768 numbers.
    """

    fits = frozenset({"embedding"})

    recall_ks: tuple[int, ...] = (1, 10)
    """The values of k, divided by commas; the first is the main score."""

    def keys(self) -> tuple[str, ...]:
        return tuple(f"recall_at_{k}" for k in self.recall_ks)

    def update(self, predictions: Predictions) -> State:
        return pairs(predictions)

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        found = places(state)
        return {
            key: float((found <= k).mean()) if len(found) else float("nan")
            for key, k in zip(self.keys(), self.recall_ks, strict=True)
        }


def pairs(predictions: Predictions) -> State:
    """The vectors `q` and `d` of each row, [rows, size] float32."""
    vectors = predictions.vectors
    assert set(vectors) == {"q", "d"}, "an evaluation has pairs"
    return {"q": vectors["q"], "d": vectors["d"]}


def places(state: State) -> np.ndarray:
    """[rows] float64: the place of each row's document among all, 1 being the nearest; inf where there is a nan."""
    import numpy as np

    if not state:
        return np.zeros(0)
    queries, documents = (unit(state[side].astype(np.float64)) for side in ("q", "d"))
    found = np.empty(len(queries))
    for begin in range(0, len(queries), BLOCK):
        near = queries[begin : begin + BLOCK] @ documents.T
        own = near[np.arange(len(near)), begin + np.arange(len(near))]
        found[begin : begin + BLOCK] = np.where(np.isnan(own), np.inf, (near >= own[:, None]).sum(axis=1))
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors at length 1; a vector of zeros stays one."""
    import numpy as np

    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length == 0, 1, length)
