"""Exact match: the share of rows whose text, or whose classes, are just the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .acc import hits


@metric("exact_match")
@dataclass
class ExactMatch(Metric):
    """Share of rows whose first text is the reference, from 0 to 1; white space at the ends does not count.

    For classes it is the share of rows that are wholly right, as `acc`. Word error in per cent, where a row is a word,
    is 100·(1 - exact_match). No rows: nan.
    """

    fits = frozenset({"text", "single_label_classification", "multi_label_classification"})

    reference_separator: str | None = None
    """What divides several right answers in a reference, such as `|`; by default a reference is one answer."""

    best_of_candidates: bool | None = None
    """Count a row whose reference is any of its returned texts, or only the first; by default that."""

    def keys(self) -> tuple[str, ...]:
        return ("exact_match",)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        if predictions.problem != "text":
            return {"hit": hits(predictions)}
        pairs = zip(
            candidates(predictions, bool(self.best_of_candidates)),
            right_answers(predictions, self.reference_separator),
            strict=True,
        )
        return {"hit": np.array([not set(texts).isdisjoint(answers) for texts, answers in pairs], dtype=bool)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"exact_match": float(state["hit"].mean()) if state and len(state["hit"]) else float("nan")}


def best_texts(predictions: Predictions) -> list[str]:
    """The first text of each row without white space at its ends."""
    assert predictions.texts is not None, "this problem has texts"
    return [texts[0].strip() if texts else "" for texts in predictions.texts]


def candidates(predictions: Predictions, best: bool) -> list[list[str]]:
    """The texts of each row to be scored, one or more, without white space at their ends: all (`best`) or the first."""
    if not best:
        return [[text] for text in best_texts(predictions)]
    assert predictions.texts is not None, "this problem has texts"
    return [[text.strip() for text in texts] or [""] for texts in predictions.texts]


def right_answers(predictions: Predictions, separator: str | None) -> list[list[str]]:
    """The right answers of each row, without white space at their ends; at least one."""
    assert predictions.references is not None, "rows that are scored have a reference"
    return [
        [answer.strip() for answer in (reference.split(separator) if separator else [reference])]
        for reference in predictions.references
    ]
