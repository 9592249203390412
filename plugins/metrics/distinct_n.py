"""Distinct-1 and distinct-2: how much of the returned texts of a row is said only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates

KEYS = ("distinct_1", "distinct_2", "distinct_texts")


@metric("distinct_n")
@dataclass
class DistinctN(Metric):
    """Different n-grams over all n-grams in the returned texts of a row, from 0 to 1 (arXiv 1510.03055).

    It is taken within each row and averaged over the rows, so it says how much the answers to one source differ. Tokens
    are divided by white space. `distinct_1` is of tokens, `distinct_2` of pairs of them, `distinct_texts` of texts.
    Rows whose texts have no n-gram are left out; nan when there is no other row.
    """

    fits = frozenset({"text"})

    def keys(self) -> tuple[str, ...]:
        return KEYS

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        rows = []
        for texts in candidates(predictions, True):
            tokens = [text.split() for text in texts]
            pairs = [pair for each in tokens for pair in pairwise(each)]
            rows.append([_share([token for each in tokens for token in each]), _share(pairs), _share(texts)])
        return dict(zip(KEYS, np.array(rows, dtype=np.float64).reshape(-1, len(KEYS)).T, strict=True))

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        import numpy as np

        defined = {key: state[key][~np.isnan(state[key])] for key in KEYS} if state else {}
        return {key: float(defined[key].mean()) if len(defined.get(key, ())) else float("nan") for key in KEYS}


def _share(items: Sequence[object]) -> float:
    return len(set(items)) / len(items) if items else float("nan")
