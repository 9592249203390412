"""ROUGE-1, -2 and -L as the original DeepGen meant them: stems, F1, the best of the returned texts, nothing cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates, right_answers

KEYS = {"legacy_rouge1": "rouge1", "legacy_rouge2": "rouge2", "legacy_rougeL": "rougeL"}
"""Key of a score → what rouge-score calls it."""


@metric("rouge_legacy")
@dataclass
class RougeLegacy(Metric):
    """Mean F1 (alpha 0.5) of ROUGE over the rows, from 0 to 1 (Lin 2004), with Porter stems; no rows: nan.

    The original's `rouge` was py-rouge with its silent cut at 665 bytes; here texts are whole, and the counts are those
    of `rouge_score` with `use_stemmer`. Words are of a-z and 0-9 only. py-rouge also looked up irregular forms
    (`went`) and took the sentences of a text one by one in ROUGE-L; here a text is one sequence.
    Each key takes the best returned text of a row for itself.
    """

    fits = frozenset({"text"})

    reference_separator: str | None = None
    """What divides several right answers in a reference, such as `|`; by default a reference is one answer."""
    best_of_candidates: bool | None = None
    """Score each row by the best of its returned texts, or by the first; by default the best, as the original did."""

    def keys(self) -> tuple[str, ...]:
        return tuple(KEYS)

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(KEYS.values()), use_stemmer=True)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        pairs = zip(
            candidates(predictions, self.best_of_candidates is not False),
            right_answers(predictions, self.reference_separator),
            strict=True,
        )
        scored = [[self._scorer.score_multi(answers, text) for text in texts] for texts, answers in pairs]
        return {
            key: np.array([max(one[name].fmeasure for one in row) for row in scored], dtype=np.float64)
            for key, name in KEYS.items()
        }

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {key: float(state[key].mean()) if state and len(state[key]) else float("nan") for key in KEYS}
