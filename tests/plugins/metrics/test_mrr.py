"""`mrr`: the mean of one over the place of each row's document, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.mrr import MeanReciprocalRank

RANDOM = np.random.default_rng(4)


def score(queries: np.ndarray, documents: np.ndarray) -> float:
    vectors = {"q": np.asarray(queries, np.float32), "d": np.asarray(documents, np.float32)}
    metric = MeanReciprocalRank()
    return metric.compute(metric.update(Predictions(np.arange(len(queries)), "embedding", vectors=vectors)))["mrr"]


def test_equals_label_ranking_average_precision() -> None:
    # with one right answer a row, that is the reciprocal rank
    queries = RANDOM.normal(size=(60, 8)).astype(np.float32)
    documents = (queries + RANDOM.normal(size=(60, 8))).astype(np.float32)
    near = queries @ (documents / np.linalg.norm(documents, axis=1, keepdims=True)).T
    found = score(queries, documents)
    assert found == pytest.approx(label_ranking_average_precision_score(np.eye(60), near))
    assert 0.1 < found < 1


def test_a_tie_counts_as_the_farther_place_and_nan_as_none() -> None:
    documents = np.eye(4)[[0, 0, 1, 2]]
    assert score(documents, documents) == 0.75
    queries = np.eye(4)
    queries[0] = np.nan
    assert score(queries, np.eye(4)) == 0.75
