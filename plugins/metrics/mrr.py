"""Mean reciprocal rank of a retrieval: how far up a query's own document is among all documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .recall_at_k import pairs, places


@metric("mrr")
@dataclass
class MeanReciprocalRank(Metric):
    """Mean over the rows of 1 / the place of the row's document among the documents of all rows, by cosine.

    From 0 to 1; places, ties and vectors that hold nan as in `recall_at_k`. No rows: nan.
    """

    fits = frozenset({"embedding"})

    def keys(self) -> tuple[str, ...]:
        return ("mrr",)

    def update(self, predictions: Predictions) -> State:
        return pairs(predictions)

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        found = places(state)
        return {"mrr": float((1 / found).mean()) if len(found) else float("nan")}
