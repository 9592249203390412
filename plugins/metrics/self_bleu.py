"""Self-BLEU: how alike the returned texts of a row are, each scored against the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates


@metric("self_bleu")
@dataclass
class SelfBleu(Metric):
    """BLEU-4 of each returned text with the other texts of its row as references, from 0 to 100 (arXiv 1802.01886).

    It is the corpus BLEU of sacrebleu over all texts of all rows, so only n-gram counts are kept. 100: the texts of a
    row are all the same; low: they differ. Rows with one text do not count; nan when there is no other row.
    """

    fits = frozenset({"text"})
    higher_is_better = False

    bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """sacrebleu's tokenizer: 13a where spaces divide words, intl for all of Unicode, zh, char; none: spaces alone."""
    bleu_lowercase: bool = False
    """Compare without regard to case."""

    def keys(self) -> tuple[str, ...]:
        return ("self_bleu",)

    @cached_property
    def _bleu(self) -> Any:
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(lowercase=self.bleu_lowercase, tokenize=self.bleu_tokenize, effective_order=True)

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        counts = np.zeros((len(predictions.rows), 11), dtype=np.int64)
        for row, texts in enumerate(candidates(predictions, True)):
            for place, text in enumerate(texts if len(texts) > 1 else ()):
                scored = self._bleu.sentence_score(text, texts[:place] + texts[place + 1 :])
                counts[row] += (scored.sys_len, scored.ref_len, *scored.counts, *scored.totals, 1)
        return {"counts": counts}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        sums = state["counts"].sum(axis=0).tolist() if state else [0] * 11
        if not sums[10]:
            return {"self_bleu": float("nan")}
        score = self._bleu.compute_bleu(sums[2:6], sums[6:10], sums[0], sums[1], smooth_method="exp")
        return {"self_bleu": float(score.score)}
