"""Accuracy against scikit-learn, and its corner cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.plugins.metrics.acc import Accuracy

RANDOM = np.random.default_rng(1)


def acc(problem: Problem, scores: np.ndarray, labels: np.ndarray) -> float:
    metric = Accuracy()
    predictions = Predictions(np.arange(len(scores)), problem, np.asarray(scores, np.float32), labels=labels)
    return metric.compute(metric.update(predictions))["acc"]


def test_is_that_of_scikit_learn() -> None:
    scores, labels = RANDOM.normal(size=(200, 5)), RANDOM.integers(0, 5, 200)
    assert acc("single_label_classification", scores, labels) == pytest.approx(accuracy_score(labels, scores.argmax(1)))


def test_multi_label_counts_rows_that_are_wholly_right() -> None:
    scores = RANDOM.normal(size=(200, 2))
    labels = RANDOM.integers(0, 2, (200, 2)).astype(np.float32)
    assert acc("multi_label_classification", scores, labels) == pytest.approx(accuracy_score(labels > 0, scores > 0))


def test_one_logit_chooses_class_1_above_zero() -> None:
    scores = np.array([[-1.0], [2.0], [0.0], [0.5]])
    assert acc("single_label_classification", scores, np.array([0, 1, 1, 1])) == 0.75


def test_of_equal_scores_the_lower_class_is_chosen() -> None:
    assert acc("single_label_classification", np.zeros((2, 3)), np.array([0, 1])) == 0.5


def test_a_row_whose_scores_are_nan_is_wrong() -> None:
    scores = np.array([[np.nan, 0.0], [1.0, 0.0]])
    assert acc("single_label_classification", scores, np.array([0, 0])) == 0.5
    assert acc("multi_label_classification", scores, np.array([[0.0, 0.0], [1.0, 0.0]])) == 0.5
