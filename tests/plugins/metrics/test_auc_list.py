"""AUC by class: names, absent classes, and the mean that auc gives too."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.plugins.metrics.auc import Auc
from deepgen.plugins.metrics.auc_list import AucList

RANDOM = np.random.default_rng(3)
SCORES = RANDOM.normal(size=(300, 3)).astype(np.float32)
LABELS = RANDOM.integers(0, 2, (300, 3)).astype(np.float32)


def scored(scores: np.ndarray, labels: np.ndarray, problem: Problem, names: tuple[str, ...] = ()) -> dict[str, float]:
    metric = AucList()
    return metric.compute(metric.update(Predictions(np.arange(len(scores)), problem, scores, labels=labels)), names)


def test_each_class_has_its_area_under_its_name() -> None:
    found = scored(SCORES, LABELS, "multi_label_classification", ("python", "c++", "r"))
    assert list(found) == ["auc_list", "auc_list_python", "auc_list_c++", "auc_list_r"]
    wanted = [roc_auc_score(LABELS[:, index], SCORES[:, index]) for index in range(3)]
    assert list(found.values())[1:] == pytest.approx(wanted, abs=1e-12)
    assert found["auc_list"] == pytest.approx(np.mean(wanted), abs=1e-12)


def test_classes_without_names_go_by_index() -> None:
    found = scored(SCORES, LABELS.argmax(1), "single_label_classification")
    assert list(found) == ["auc_list", "auc_list_0", "auc_list_1", "auc_list_2"]


def test_an_absent_class_is_nan_and_not_in_the_mean() -> None:
    labels = np.where(np.arange(300) % 2, 0, 2)
    found = scored(SCORES, labels, "single_label_classification")
    assert math.isnan(found["auc_list_1"])
    assert found["auc_list"] == pytest.approx((found["auc_list_0"] + found["auc_list_2"]) / 2)
    auc = Auc()
    whole = auc.compute({"scores": SCORES, "labels": labels})["auc"]
    assert found["auc_list"] == whole


def test_one_or_two_logits_give_both_classes_the_same_area() -> None:
    labels = RANDOM.integers(0, 2, 300)
    one = scored(SCORES[:, :1], labels, "single_label_classification", ("no", "yes"))
    assert list(one) == ["auc_list", "auc_list_no", "auc_list_yes"]
    assert one["auc_list_no"] == pytest.approx(one["auc_list_yes"])
    assert one["auc_list"] == pytest.approx(roc_auc_score(labels, SCORES[:, 0]))
