"""Macro AUC against scikit-learn, and its corner cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.plugins.metrics.auc import Auc

RANDOM = np.random.default_rng(2)


def auc(problem: Problem, scores: np.ndarray, labels: np.ndarray) -> float:
    metric = Auc()
    predictions = Predictions(np.arange(len(scores)), problem, np.asarray(scores, np.float32), labels=labels)
    return metric.compute(metric.update(predictions))["auc"]


def test_two_logits_are_that_of_scikit_learn_with_ties() -> None:
    scores, labels = RANDOM.integers(-3, 3, (300, 2)), RANDOM.integers(0, 2, 300)
    wanted = roc_auc_score(labels, softmax(scores.astype(float), axis=1)[:, 1].round(9))
    assert auc("single_label_classification", scores, labels) == pytest.approx(wanted, abs=1e-12)


def test_one_logit_equals_its_two() -> None:
    scores, labels = RANDOM.normal(size=(300, 1)), RANDOM.integers(0, 2, 300)
    wanted = roc_auc_score(labels, expit(scores[:, 0]))
    assert auc("single_label_classification", scores, labels) == pytest.approx(wanted, abs=1e-12)
    both = np.hstack([np.zeros_like(scores), scores])
    assert auc("single_label_classification", both, labels) == pytest.approx(wanted, abs=1e-12)


def test_more_classes_are_the_macro_average_of_one_against_the_rest() -> None:
    scores, labels = RANDOM.normal(size=(300, 4)).astype(np.float32), RANDOM.integers(0, 4, 300)
    probabilities = softmax(scores.astype(float), axis=1)
    wanted = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert auc("single_label_classification", scores, labels) == pytest.approx(wanted, abs=1e-12)


def test_multi_label_is_the_macro_average() -> None:
    scores, labels = RANDOM.normal(size=(300, 4)), RANDOM.integers(0, 2, (300, 4)).astype(np.float32)
    wanted = roc_auc_score(labels, expit(scores), average="macro")
    assert auc("multi_label_classification", scores, labels) == pytest.approx(wanted, abs=1e-12)


def test_an_absent_class_is_left_out_of_the_average() -> None:
    scores, labels = RANDOM.normal(size=(300, 3)), RANDOM.integers(0, 2, (300, 3)).astype(np.float32)
    labels[:, 1] = 0
    wanted = roc_auc_score(labels[:, [0, 2]], scores[:, [0, 2]], average="macro")
    assert auc("multi_label_classification", scores, labels) == pytest.approx(wanted, abs=1e-12)


def test_one_class_in_all_rows_has_no_area() -> None:
    assert math.isnan(auc("single_label_classification", RANDOM.normal(size=(9, 2)), np.ones(9, np.int64)))


def test_a_score_that_is_nan_makes_it_nan() -> None:
    scores = np.array([[0.0, 1.0], [np.nan, 0.0], [1.0, 0.0]])
    assert math.isnan(auc("single_label_classification", scores, np.array([1, 0, 0])))


def test_far_logits_still_rank() -> None:
    """A softmax in 32 bits is 1 for each of these rows."""
    scores = np.array([[0.0, 100.0], [0.0, 200.0], [0.0, 300.0]])
    assert auc("single_label_classification", scores, np.array([0, 1, 1])) == 1.0
