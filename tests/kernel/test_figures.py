"""The pictures: which are drawn from what a run folder holds, and that the numbers in them are right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel import charts, figures
from deepgen.kernel.contracts import Problem
from deepgen.kernel.events import EventStream

RNG = np.random.default_rng(0)


def _drawn(folder: Path) -> set[str]:
    place = figures.draw(folder)
    for path in place.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5000
    return {path.stem for path in place.iterdir()}


def _train(folder: Path) -> None:
    events = EventStream(folder)
    for step in range(1, 21):
        events.progress("train", step, 20, step=step, values={"loss": 1 / step})
        if step % 5 == 0:
            scores = {"eval_acc": step / 20, "eval_bleu": 2.0 * step, "eval_loss": 1 / step, "eval_auc": math.nan}
            events.scored("eval", scores, step=step, best=step == 10)


def test_a_run_of_text_has_a_learning_curve_only(tmp_path: Path) -> None:
    _train(tmp_path)
    assert _drawn(tmp_path) == {"learning_curve"}


@pytest.mark.parametrize(
    ("problem", "classes", "names", "drawn"),
    [
        ("single_label_classification", 1, ["no", "yes"], {"confusion_matrix", "roc", "calibration"}),
        ("single_label_classification", 2, [], {"confusion_matrix", "roc", "calibration"}),
        ("single_label_classification", 30, [], {"confusion_matrix", "roc", "calibration"}),
        ("multi_label_classification", 4, ["a", "b", "c", "a very long name {of} a $class"], {"roc", "calibration"}),
        ("regression", 1, [], {"predicted_and_true"}),
        ("regression", 3, [], {"predicted_and_true"}),
    ],
)
def test_each_problem_has_its_pictures(
    tmp_path: Path, problem: Problem, classes: int, names: list[str], drawn: set[str]
) -> None:
    scores = RNG.normal(size=(200, classes)).astype(np.float32)
    labels: Any = RNG.integers(0, max(2, classes), 200)
    if problem == "multi_label_classification":
        labels = RNG.integers(0, 2, (200, classes))
        labels[:, 0] = 0  # a class that never occurs has no ROC curve
    elif problem == "regression":
        labels = RNG.normal(size=(200, classes)).squeeze()
    figures.save_evaluation(tmp_path / figures.EVALUATION, scores, labels, names, problem)
    assert _drawn(tmp_path) == drawn
    assert [path.name for path in (tmp_path / "log").iterdir() if path.suffix == ".npz"] == ["eval.npz"]


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert _drawn(tmp_path) == set()
    figures.save_evaluation(tmp_path / figures.EVALUATION, np.empty((0, 2)), np.empty(0), [], "regression")
    assert _drawn(tmp_path) == set()


def test_one_row_of_one_class(tmp_path: Path) -> None:
    scores = np.array([[0.1, 0.9]])
    figures.save_evaluation(tmp_path / figures.EVALUATION, scores, np.array([1]), [], "single_label_classification")
    assert "confusion_matrix" in _drawn(tmp_path)


def test_the_area_under_the_roc_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    truth = RNG.integers(0, 2, (500, 3)).astype(bool)
    shares = np.round(0.3 * truth + RNG.random((500, 3)), 1)  # many rows share a score
    figure = charts.roc(shares, truth, ["x", "y", "z"])
    legend = figure.axes[0].get_legend()
    assert legend is not None
    shown = {text.get_text().split("  ")[0]: float(text.get_text().split("  ")[1]) for text in legend.get_texts()}
    for index, name in enumerate("xyz"):
        assert shown[name] == pytest.approx(roc_auc_score(truth[:, index], shares[:, index]), abs=6e-4)


def test_calibration_of_honest_probabilities_has_no_error() -> None:
    shares = np.repeat(np.arange(0.05, 1, 0.1), 100)
    truth = np.concatenate([np.arange(100) < round(100 * share) for share in np.arange(0.05, 1, 0.1)])
    assert charts.calibration(shares, truth).axes[0].get_title().endswith(" 0.000")


def test_the_confusion_matrix_counts_rows() -> None:
    figure = charts.confusion(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), ["no", "yes"])
    texts = sorted(text.get_text() for text in figure.axes[0].texts)
    assert texts == ["100%\n2", "50%\n1", "50%\n1"]
    assert "75.0% of 4 rows" in figure.axes[0].get_title()
