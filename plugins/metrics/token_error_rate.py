"""Token error rate: edits that turn the text into the reference, per reference token; of phones, the phone error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ...kernel.contracts import Metric, Predictions, State
from ...kernel.registry import metric
from .exact_match import candidates, right_answers


@metric("token_error_rate")
@dataclass
class TokenErrorRate(Metric):
    """Insertions, deletions and substitutions of tokens over all rows, divided by the number of reference tokens.

    Tokens are divided by white space, so this is the word error rate of sentences and the phone error rate of phone
    strings. 0 is best; it may pass 1. Where a reference has several right answers the one with the fewest edits counts
    (the longer one where two have the same). `sequence_error_rate`: share of rows with at least one edit.
    nan when there are no rows or no reference tokens.
    """

    fits = frozenset({"text"})
    higher_is_better = False

    reference_separator: str | None = None
    """What divides several right answers in a reference, such as `|`; by default a reference is one answer."""

    best_of_candidates: bool | None = None
    """Score each row by the best of its returned texts (that of the fewest edits), or by the first; by default that."""

    def keys(self) -> tuple[str, ...]:
        return ("token_error_rate", "sequence_error_rate")

    def update(self, predictions: Predictions) -> State:
        import numpy as np

        counts = []
        for texts, answers in zip(
            candidates(predictions, bool(self.best_of_candidates)),
            right_answers(predictions, self.reference_separator),
            strict=True,
        ):
            pairs = product([answer.split() for answer in answers], [text.split() for text in texts])
            counts.append(min((edit_distance(answer, tokens), -len(answer)) for answer, tokens in pairs))
        both = np.array(counts, dtype=np.int64).reshape(-1, 2)
        return {"edits": both[:, 0], "tokens": -both[:, 1]}

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        if not state or not len(state["edits"]):
            return dict.fromkeys(self.keys(), float("nan"))
        tokens = int(state["tokens"].sum())
        return {
            "token_error_rate": float(state["edits"].sum() / tokens) if tokens else float("nan"),
            "sequence_error_rate": float((state["edits"] > 0).mean()),
        }


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The Levenshtein distance, bit-parallel over whole numbers of any size (Myers 1999, Hyyrö 2003).

    Bit i of `up` (`down`) says that the cost rises (falls) by one from place i - 1 to i of `one`.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for index, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << index
    everywhere, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = everywhere, 0, len(one)
    for token in other:
        same = places.get(token, 0)
        diagonal = ((((same & up) + up) ^ up) | same | down) & everywhere
        rise, fall = down | ~(diagonal | up) & everywhere, up & diagonal
        distance += bool(rise & last) - bool(fall & last)
        rise, fall = rise << 1 | 1, fall << 1
        up, down = (fall | ~(diagonal | rise)) & everywhere, rise & diagonal
    return distance
