"""Perplexity: how many tokens a masked language model wavers between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric


@metric("perplexity")
@dataclass
class Perplexity(Metric):
    """The exponential of the mean cross-entropy of a hidden token; 1 is the best. No hidden token: nan.

    It is that of the tokens which were hidden given all others, and compares models of one tokenizer only.
    """

    fits = frozenset({"masked_text"})
    higher_is_better: ClassVar[bool] = False

    def keys(self) -> tuple[str, ...]:
        return ("perplexity",)

    def update(self, predictions: Predictions) -> State:
        return {name: predictions.more[name] for name in ("masked_loss", "masked_tokens")}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        import numpy as np

        tokens = state["masked_tokens"].sum() if state else 0
        mean = state["masked_loss"].sum(dtype=np.float64) / tokens if tokens else np.nan
        with np.errstate(over="ignore"):
            return {"perplexity": float(np.exp(mean))}
