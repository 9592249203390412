"""Token error rate: the edit distance against the plain recurrence, and several right answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.token_error_rate import TokenErrorRate, edit_distance

TOKENS = st.lists(st.sampled_from("abcd"), max_size=90)


def rates(texts: list[str], references: list[str], separator: str | None = None) -> dict[str, float]:
    metric = TokenErrorRate(separator)
    rows = np.arange(len(texts))
    return metric.compute(metric.update(Predictions(rows, "text", texts=[[t] for t in texts], references=references)))


def plain_distance(one: list[str], other: list[str]) -> int:
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


@given(TOKENS, TOKENS)
def test_the_distance_is_that_of_the_recurrence(one: list[str], other: list[str]) -> None:
    assert edit_distance(one, other) == plain_distance(one, other)


def test_edits_are_divided_by_all_reference_tokens() -> None:
    found = rates(["K AE T", "D AO", ""], ["K AE T", "D AO G", "AH"])
    assert found == {"token_error_rate": pytest.approx(2 / 7), "sequence_error_rate": pytest.approx(2 / 3)}


def test_the_nearest_right_answer_counts() -> None:
    found = rates(["P R IY Z AY"], ["P R IH Z AY D IH NG | P R IY Z AY D"], " | ")
    assert found["token_error_rate"] == pytest.approx(1 / 6)
    assert rates(["B"], ["B | C"], "|") == {"token_error_rate": 0.0, "sequence_error_rate": 0.0}


def test_the_candidate_of_the_fewest_edits_counts_where_that_is_asked_for() -> None:
    texts = [["a b x", "a b c d", "a b c"], [], ["q", "e f"]]
    references = ["a b c", "h", "e f g | e g"]
    predictions = Predictions(np.arange(3), "text", texts=texts, references=references)
    for best, edits, tokens, wrong in ((True, 0 + 1 + 1, 3 + 1 + 3, 2), (None, 1 + 1 + 2, 3 + 1 + 2, 3)):
        metric = TokenErrorRate(" | ", best)
        found = metric.compute(metric.update(predictions))
        assert found == {
            "token_error_rate": pytest.approx(edits / tokens),
            "sequence_error_rate": pytest.approx(wrong / 3),
        }


def test_it_may_pass_one_and_has_no_value_without_reference_tokens() -> None:
    assert rates(["a b c"], ["d"])["token_error_rate"] == 3
    empty = rates(["a", ""], ["", ""])
    assert math.isnan(empty["token_error_rate"])
    assert empty["sequence_error_rate"] == 0.5


def test_less_is_better() -> None:
    assert not TokenErrorRate.higher_is_better
