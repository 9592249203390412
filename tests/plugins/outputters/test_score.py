"""Score lines for each problem, their digits, and columns that hold TAB or newline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy.special import expit, softmax

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.plugins.outputters.score import Score

RANDOM = np.random.default_rng(1)


def lines(
    problem: Problem,
    scores: Sequence[Sequence[float]] | np.ndarray,
    columns: Mapping[str, Sequence[str]] | None = None,
    precision: int | None = None,
) -> list[str]:
    values = np.asarray(scores, np.float32)
    return Score(score_precision=precision).format(
        Predictions(np.arange(len(values)), problem, values, columns=columns or {})
    )


def test_single_label_is_the_softmax_divided_by_commas() -> None:
    assert lines("single_label_classification", [[0, 1]]) == ["0.26894143,0.7310586\n"]
    scores = RANDOM.normal(size=(50, 7)) * 9
    found = [[float(cell) for cell in line.split(",")] for line in lines("single_label_classification", scores)]
    np.testing.assert_allclose(found, softmax(scores, axis=1), rtol=1e-5)


def test_multi_label_and_a_lone_logit_are_the_sigmoid() -> None:
    scores = RANDOM.normal(size=(50, 3)) * 9
    found = [[float(cell) for cell in line.split(",")] for line in lines("multi_label_classification", scores)]
    np.testing.assert_allclose(found, expit(scores), rtol=1e-5)
    assert lines("single_label_classification", [[1.0], [-1000.0]]) == ["0.7310586\n", "0\n"]


def test_regression_is_the_raw_value() -> None:
    assert lines("regression", [[0.1], [-2.5], [np.nan]]) == ["0.1\n", "-2.5\n", "nan\n"]
    assert lines("regression", [[0.1, 3]]) == ["0.1,3\n"]


def test_digits_read_back_as_the_same_number() -> None:
    scores = (RANDOM.normal(size=(2000, 1)) * 10.0 ** RANDOM.integers(-30, 30, (2000, 1))).astype(np.float32)
    found = np.array([np.float32(line) for line in lines("regression", scores)])
    np.testing.assert_array_equal(found, scores[:, 0])


def test_a_precision_fixes_the_digits() -> None:
    assert lines("single_label_classification", [[0, 1]], precision=3) == ["0.269,0.731\n"]
    assert lines("regression", [[12.5]], precision=0) == ["12\n"]


def test_result_columns_come_first_and_cannot_break_a_line() -> None:
    columns = {"id": ["7", "a\tb"], "text": ["plain", "two\r\nlines \\n"]}
    assert lines("regression", [[1.5], [2.5]], columns) == ["7\tplain\t1.5\n", "a\\tb\ttwo\\r\\nlines \\\\n\t2.5\n"]
    assert Score().columns("regression", ("id", "text")) == ("id", "text", "scores")


@pytest.mark.parametrize("problem", sorted(Score.fits))
def test_no_rows_give_no_lines(problem: Problem) -> None:
    assert lines(problem, np.zeros((0, 2)), {"id": []}) == []
