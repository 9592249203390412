"""F1 against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.plugins.metrics.f1 import F1

RANDOM = np.random.default_rng(4)


def f1(problem: Problem, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    metric = F1()
    predictions = Predictions(np.arange(len(scores)), problem, np.asarray(scores, np.float32), labels=labels)
    return metric.compute(metric.update(predictions))


@pytest.mark.parametrize("classes", [3, 12])
def test_single_label_is_that_of_scikit_learn(classes: int) -> None:
    scores, labels = RANDOM.normal(size=(60, classes)), RANDOM.integers(0, classes, 60)
    found, chosen = f1("single_label_classification", scores, labels), scores.argmax(1)
    assert found["f1_macro"] == pytest.approx(f1_score(labels, chosen, average="macro"))
    assert found["f1_micro"] == pytest.approx(f1_score(labels, chosen, average="micro"))
    assert "f1_binary" not in found


def test_a_class_that_no_row_has_or_chooses_is_not_in_the_macro_average() -> None:
    scores, labels = RANDOM.normal(size=(60, 4)), RANDOM.integers(0, 2, 60)
    scores[:, 3] = -9
    wanted = f1_score(labels, scores.argmax(1), average="macro")
    assert f1("single_label_classification", scores, labels)["f1_macro"] == pytest.approx(wanted)


def test_multi_label_is_that_of_scikit_learn() -> None:
    scores, labels = RANDOM.normal(size=(60, 4)), RANDOM.integers(0, 2, (60, 4)).astype(np.float32)
    scores[:, 2], labels[:, 2] = -1, 0
    found = f1("multi_label_classification", scores, labels)
    each = [f1_score(labels[:, i] > 0, scores[:, i] > 0) for i in (0, 1, 3)]
    assert found["f1_macro"] == pytest.approx(sum(each) / 4), "a class that is never true and never chosen has 0"
    assert found["f1_micro"] == pytest.approx(f1_score(labels > 0, scores > 0, average="micro"))


@pytest.mark.parametrize("logits", [1, 2])
def test_two_classes_give_that_of_class_1(logits: int) -> None:
    scores, labels = RANDOM.normal(size=(60, logits)), RANDOM.integers(0, 2, 60)
    chosen = scores[:, 0] > 0 if logits == 1 else scores.argmax(1)
    found = f1("single_label_classification", scores, labels)
    assert found["f1_binary"] == pytest.approx(f1_score(labels, chosen))


def test_rows_whose_scores_are_nan_are_wrong() -> None:
    scores = np.array([[np.nan, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = f1("single_label_classification", scores, np.array([0, 1, 0]))
    assert found["f1_micro"] == pytest.approx(2 / 3)
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)
