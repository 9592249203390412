"""BLEU-4 of all rows together, as sacrebleu counts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates, right_answers


@metric("bleu")
@dataclass
class Bleu(Metric):
    """Corpus BLEU-4 from 0 to 100 (Papineni et al. 2002), the same number as `sacrebleu.corpus_bleu`; no rows: nan.

    The first text of each row is scored. Only the n-gram counts of a row are kept, so that ranks add up exactly.
    """

    fits = frozenset({"text"})

    bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """sacrebleu's tokenizer: 13a where spaces divide words, intl for all of Unicode, zh, char; none: spaces alone."""
    bleu_lowercase: bool = False
    """Compare without regard to case."""
    reference_separator: str | None = None
    """What divides several right answers in a reference, such as `|`; by default a reference is one answer."""

    best_of_candidates: bool | None = None
    """Score each row by the best of its returned texts (here by sentence BLEU), or by the first; by default that."""

    def keys(self) -> tuple[str, ...]:
        return ("bleu",)

    @cached_property
    def _bleu(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        # Effective order only changes the score of one sentence, which is not used, and spares a warning about it.
        return BLEU(lowercase=self.bleu_lowercase, tokenize=self.bleu_tokenize, effective_order=True)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        pairs = zip(
            candidates(predictions, bool(self.best_of_candidates)),
            right_answers(predictions, self.reference_separator),
            strict=True,
        )
        scored = [
            max((self._bleu.sentence_score(text, answers) for text in texts), key=lambda one: one.score)
            for texts, answers in pairs
        ]
        counts = [(each.sys_len, each.ref_len, *each.counts, *each.totals) for each in scored]
        return {"counts": np.array(counts, dtype=np.int32).reshape(-1, 10)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        if not state or not len(state["counts"]):
            return {"bleu": float("nan")}
        sums = state["counts"].sum(axis=0).tolist()
        score = self._bleu.compute_bleu(sums[2:6], sums[6:], sums[0], sums[1], smooth_method="exp")
        return {"bleu": float(score.score)}
