"""Exact match of texts, with one or several right answers, and of classes."""

from __future__ import annotations

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.exact_match import ExactMatch


def exact_match(texts: list[list[str]], references: list[str], separator: str | None = None) -> float:
    metric = ExactMatch(separator)
    predictions = Predictions(np.arange(len(texts)), "text", texts=texts, references=references)
    return metric.compute(metric.update(predictions))["exact_match"]


def test_the_first_text_must_be_the_reference() -> None:
    texts = [["a b", "x"], ["x", "a b"], [" a b "], []]
    assert exact_match(texts, ["a b"] * 4) == 0.5


def test_any_text_may_be_the_reference_where_that_is_asked_for() -> None:
    predictions = Predictions(np.arange(3), "text", texts=[["x", " a b"], ["x"], []], references=["a b"] * 3)
    metric = ExactMatch(best_of_candidates=True)
    assert metric.compute(metric.update(predictions))["exact_match"] == pytest.approx(1 / 3)


def test_a_bar_is_text_unless_it_is_said_to_divide_answers() -> None:
    texts, references = [["a"], ["b"], ["a | b"]], ["a | b"] * 3
    assert exact_match(texts, references) == pytest.approx(1 / 3)
    assert exact_match(texts, references, " | ") == pytest.approx(2 / 3)
    assert exact_match(texts, references, "|") == pytest.approx(2 / 3)


def test_no_text_matches_an_empty_reference() -> None:
    assert exact_match([[""], []], ["", ""]) == 1


def test_of_classes_it_is_the_rows_that_are_wholly_right() -> None:
    metric = ExactMatch()
    scores = np.array([[1, -1], [1, 1]], np.float32)
    one = Predictions(np.arange(2), "single_label_classification", scores, labels=np.array([0, 1]))
    several = Predictions(
        np.arange(2), "multi_label_classification", scores, labels=np.array([[1, 0], [0, 1]], np.float32)
    )
    assert metric.compute(metric.update(one)) == metric.compute(metric.update(several)) == {"exact_match": 0.5}
