"""Masked accuracy: how often a masked language model finds a hidden token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric


@metric("masked_acc")
@dataclass
class MaskedAcc(Metric):
    """Share of the hidden tokens that are the likeliest one, from 0 to 1. No hidden token: nan."""

    fits = frozenset({"masked_text"})

    def keys(self) -> tuple[str, ...]:
        return ("masked_acc",)

    def update(self, predictions: Predictions) -> State:
        return {name: predictions.more[name] for name in ("masked_right", "masked_tokens")}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        tokens = state["masked_tokens"].sum() if state else 0
        return {"masked_acc": float(state["masked_right"].sum() / tokens) if tokens else float("nan")}
