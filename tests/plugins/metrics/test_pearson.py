"""Pearson correlation against SciPy, and its corner cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.pearson import Pearson

RANDOM = np.random.default_rng(6)


def pearson(scores: np.ndarray, labels: np.ndarray) -> float:
    metric = Pearson()
    predictions = Predictions(np.arange(len(scores)), "regression", np.asarray(scores, np.float32), labels=labels)
    return metric.compute(metric.update(predictions))["pearson"]


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_is_that_of_scipy(shift: float) -> None:
    labels = (RANDOM.normal(size=80) + shift).astype(np.float32)
    scores = (0.5 * labels + RANDOM.normal(size=80)).astype(np.float32)
    wanted = pearsonr(scores.astype(float), labels.astype(float))[0]
    assert pearson(scores[:, None], labels) == pytest.approx(wanted, abs=1e-12)


def test_several_values_give_the_mean_of_each() -> None:
    scores, labels = RANDOM.normal(size=(80, 2)).astype(np.float32), RANDOM.normal(size=(80, 2)).astype(np.float32)
    each = [float(np.corrcoef(scores[:, i].astype(float), labels[:, i].astype(float))[0, 1]) for i in range(2)]
    assert pearson(scores, labels) == pytest.approx(np.mean(each), abs=1e-12)
    labels[:, 1] = 0.1
    assert pearson(scores, labels) == pytest.approx(each[0], abs=1e-12)


def test_a_constant_or_a_lone_row_has_none() -> None:
    labels = RANDOM.normal(size=8).astype(np.float32)
    assert math.isnan(pearson(np.full((8, 1), 0.1), labels))
    assert math.isnan(pearson(labels[:, None], np.full(8, 0.1, np.float32)))
    assert math.isnan(pearson(np.ones((1, 1)), np.ones(1, np.float32)))


def test_a_score_that_is_nan_makes_it_nan() -> None:
    assert math.isnan(pearson(np.array([[1.0], [np.nan], [2.0]]), np.array([1, 2, 3], np.float32)))


def test_a_straight_line_is_one() -> None:
    assert pearson(np.arange(7.0)[:, None] * 3 + 1, np.arange(7, dtype=np.float32)) == pytest.approx(1, abs=1e-15)
