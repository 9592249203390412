"""Single-score lines: raw numbers, whatever the problem."""

from __future__ import annotations

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.plugins.outputters.single_score import SingleScore


@pytest.mark.parametrize("problem", sorted(SingleScore.fits))
def test_scores_are_raw_and_divided_by_commas(problem: Problem) -> None:
    scores = np.array([[0.1, -2], [30, 0]], np.float32)
    more = {"embedding": np.ones((2, 3), np.float32)}
    predictions = Predictions(np.arange(2), problem, scores, columns={"id": ["7", "a\tb"]}, more=more)
    assert SingleScore().format(predictions) == ["7\t0.1,-2\n", "a\\tb\t30,0\n"]
    assert SingleScore(score_precision=1).format(predictions) == ["7\t0.1,-2.0\n", "a\\tb\t30.0,0.0\n"]
    assert SingleScore().columns(problem, ("id",)) == ("id", "scores")


def test_one_score_and_no_columns() -> None:
    scores = np.array([[1.5], [np.nan]], np.float32)
    assert SingleScore().format(Predictions(np.arange(2), "regression", scores)) == ["1.5\n", "nan\n"]


def test_no_rows_give_no_lines() -> None:
    assert SingleScore().format(Predictions(np.arange(0), "regression", np.zeros((0, 1), np.float32))) == []
