"""Mean sentence BLEU-4 with smoothing, the formula of the original DeepGen's `bleu`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates, right_answers

EPSILON = 0.1
"""What an n-gram order without a match counts, as in nltk."""


@metric("bleu_sentence")
@dataclass
class BleuSentence(Metric):
    """BLEU-4 of each row, averaged over the rows, from 0 to 1; no rows: nan.

    The formula is that of `nltk.translate.bleu_score.sentence_bleu` with `SmoothingFunction().method1`: equal weights,
    the brevity penalty of the nearest reference length, 0.1 for an order without a match (Lin & Och 2004; method 1 of
    Chen & Cherry 2014), and 0 for a text without a common word. Tokens are lower-cased and those of sacrebleu; nltk's
    own tokenizer differs in contractions and quotation marks. Do not compare it with `bleu`, which adds up counts.
    """

    fits = frozenset({"text"})

    bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """sacrebleu's tokenizer: 13a where spaces divide words, intl for all of Unicode, zh, char; none: spaces alone."""
    reference_separator: str | None = None
    """What divides several right answers in a reference, such as `|`; by default a reference is one answer."""
    best_of_candidates: bool | None = None
    """Score each row by the best of its returned texts, or by the first; by default the best, as the original did."""

    def keys(self) -> tuple[str, ...]:
        return ("bleu_sentence",)

    @cached_property
    def _bleu(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(lowercase=True, tokenize=self.bleu_tokenize, effective_order=True)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        pairs = zip(
            candidates(predictions, self.best_of_candidates is not False),
            right_answers(predictions, self.reference_separator),
            strict=True,
        )
        scores = [max(smoothed(self._bleu.sentence_score(text, answers)) for text in texts) for texts, answers in pairs]
        return {"scores": np.array(scores, dtype=np.float64)}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        return {"bleu_sentence": float(state["scores"].mean()) if state and len(state["scores"]) else float("nan")}


def smoothed(counted: Any) -> float:
    """The score from what sacrebleu counted: matches and n-grams of each order, and both lengths in tokens."""
    if not counted.counts[0]:
        return 0.0
    # an order for which the text is too short has one n-gram that does not match
    shares = [(count or EPSILON) / max(total, 1) for count, total in zip(counted.counts, counted.totals, strict=True)]
    penalty = min(0.0, 1 - counted.ref_len / counted.sys_len)
    return math.exp(penalty + sum(map(math.log, shares)) / len(shares))
