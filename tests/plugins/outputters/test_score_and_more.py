"""Lines of every tensor: one field each, in the model's order, through the kernel's own evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from deepgen.kernel.contracts import Predictions
from deepgen.kernel.evaluation import Evaluator
from deepgen.plugins.outputters.score_and_more import ScoreAndMore


def test_each_tensor_is_a_field() -> None:
    more = {
        "embedding": np.array([[0.5, -1], [2, 3]], np.float32),
        "tower": np.arange(8, dtype=np.float32).reshape(2, 2, 2),
        "chosen": np.array([4, 5]),
        "nothing": np.zeros((2, 0), np.float32),
    }
    scores = np.array([[0.1], [-3]], np.float32)
    predictions = Predictions(np.arange(2), "regression", scores, columns={"id": ["7", "a\tb"]}, more=more)
    assert ScoreAndMore().format(predictions) == [
        "7\t0.1\t0.5,-1\t0,1,2,3\t4\t\n",
        "a\\tb\t-3\t2,3\t4,5,6,7\t5\t\n",
    ]
    assert ScoreAndMore(score_precision=1).format(predictions)[0] == "7\t0.1\t0.5,-1.0\t0.0,1.0,2.0,3.0\t4\t\n"


def test_without_more_it_is_the_raw_scores() -> None:
    scores = np.array([[0, 1]], np.float32)
    assert ScoreAndMore().format(Predictions(np.arange(1), "single_label_classification", scores)) == ["0,1\n"]
    assert ScoreAndMore().columns("regression", ("id",)) == ("id", "scores", "…")


def test_no_rows_give_no_lines() -> None:
    nothing = Predictions(
        np.arange(0), "regression", np.zeros((0, 1), np.float32), more={"embedding": np.zeros((0, 4), np.float32)}
    )
    assert ScoreAndMore().format(nothing) == []


def test_the_evaluator_hands_on_what_a_model_gives() -> None:
    class Rows:
        """Two rows, out of order."""

        row_numbers = np.array([5, 3])

    rows: Any = Rows()
    nobody: Any = None
    evaluator = Evaluator(nobody, nobody, "regression", (), nobody)
    answers = {
        "scores": torch.tensor([[1.0], [2.0]]),
        "embedding": torch.tensor([[0.5, 1], [2, 3]], dtype=torch.bfloat16),
        "place": torch.tensor([1, 0]),
    }
    made = evaluator._predictions(rows, np.arange(2), {}, answers)
    assert list(made.more) == ["embedding", "place"]
    assert ScoreAndMore().format(made) == ["1\t0.5,1\t1\n", "2\t2,3\t0\n"]
