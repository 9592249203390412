"""ROUGE-1, -2, -L and -Lsum, as Google's rouge-score counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates, right_answers


@metric("rouge")
@dataclass
class Rouge(Metric):
    """Mean F of ROUGE over the rows, from 0 to 1 (Lin 2004), the same numbers as `rouge_score`; no rows: nan.

    The first text of each row is scored, in lower case, words of a-z and 0-9 only: it says nothing of texts in other
    alphabets. `rougeLsum` takes each line of a text as a sentence. With several right answers the best one counts.
    """

    fits = frozenset({"text"})

    use_stemmer: bool = False
    """Compare the stems of words of more than three letters (Porter's stemmer, English)."""
    reference_separator: str | None = None
    """What divides several right answers in a reference, such as `|`; by default a reference is one answer."""

    best_of_candidates: bool | None = None
    """Score each row by the best of its returned texts (each key its own), or by the first; by default that."""

    def keys(self) -> tuple[str, ...]:
        return ("rouge1", "rouge2", "rougeL", "rougeLsum")

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(self.keys()), use_stemmer=self.use_stemmer)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        pairs = zip(
            candidates(predictions, bool(self.best_of_candidates)),
            right_answers(predictions, self.reference_separator),
            strict=True,
        )
        scored = [[self._scorer.score_multi(answers, text) for text in texts] for texts, answers in pairs]
        return {
            key: np.array([max(one[key].fmeasure for one in row) for row in scored], dtype=np.float64)
            for key in self.keys()
        }

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {key: float(state[key].mean()) if state and len(state[key]) else float("nan") for key in self.keys()}
