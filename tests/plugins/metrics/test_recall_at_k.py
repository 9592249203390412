"""`recall_at_k`: the share of queries whose document is near enough, against scikit-learn's top-k accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics import recall_at_k
from deepgen.plugins.metrics.recall_at_k import RecallAtK

RANDOM = np.random.default_rng(3)


def score(queries: np.ndarray, documents: np.ndarray, ks: tuple[int, ...] = (1, 10)) -> dict[str, float]:
    vectors = {"q": np.asarray(queries, np.float32), "d": np.asarray(documents, np.float32)}
    metric = RecallAtK(recall_ks=ks)
    return metric.compute(metric.update(Predictions(np.arange(len(queries)), "embedding", vectors=vectors)))


def test_equals_top_k_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_at_k, "BLOCK", 16)  # several blocks, the last one short
    queries = RANDOM.normal(size=(90, 8)).astype(np.float32)
    documents = (queries + RANDOM.normal(size=(90, 8))).astype(np.float32) * RANDOM.uniform(1, 9, (90, 1))
    found = score(queries, documents, (1, 3, 10))
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(documents, axis=1)
    for k in (1, 3, 10):
        wanted = top_k_accuracy_score(np.arange(90), queries @ documents.T / norms, k=k)
        assert found[f"recall_at_{k}"] == pytest.approx(wanted)
    assert 0 < found["recall_at_1"] < found["recall_at_3"] < found["recall_at_10"] < 1


def test_the_first_k_is_the_main_key() -> None:
    assert RecallAtK((5, 1)).keys() == ("recall_at_5", "recall_at_1")


def test_vectors_that_are_all_alike_find_nothing() -> None:
    assert score(np.ones((20, 4)), np.ones((20, 4))) == {"recall_at_1": 0, "recall_at_10": 0}
    assert score(np.zeros((20, 4)), np.ones((20, 4))) == {"recall_at_1": 0, "recall_at_10": 0}


def test_a_document_that_two_rows_have_is_missed_at_one() -> None:
    documents = np.eye(4)[[0, 0, 1, 2]]
    assert score(documents, documents, (1, 2)) == {"recall_at_1": 0.5, "recall_at_2": 1}


def test_nan_is_missed() -> None:
    queries = np.eye(4)
    queries[1] = np.nan
    assert score(queries, np.eye(4)) == {"recall_at_1": 0.75, "recall_at_10": 0.75}
