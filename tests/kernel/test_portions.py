"""Answers of several forward passes as one, and some rows of them."""

from __future__ import annotations

import numpy as np

from deepgen.kernel.contracts import Predictions
from deepgen.kernel.portions import chosen, joined


def made(rows: list[int], width: int = 2) -> Predictions:
    numbers = np.array(rows)
    return Predictions(
        rows=numbers,
        problem="text",
        scores=numbers[:, None] + np.zeros((1, 2), np.float32),
        texts=[[f"text {row}", "other"] for row in rows],
        class_names=("a", "b"),
        columns={"text": [f"column {row}" for row in rows]},
        more={"tokens": np.repeat(numbers[:, None], width, axis=1)},
        vectors={"q": numbers[:, None] * np.ones((1, 3), np.float32)},
    )


def test_passes_are_joined_in_the_order_of_their_rows() -> None:
    answers = joined([made([4, 1], 3), made([3]), made([0, 2], 1)])
    assert answers.rows.tolist() == [0, 1, 2, 3, 4]
    assert answers.scores is not None
    assert answers.scores.tolist() == [[row, row] for row in range(5)]
    assert answers.texts == [[f"text {row}", "other"] for row in range(5)]
    assert answers.columns == {"text": [f"column {row}" for row in range(5)]}
    assert answers.vectors["q"].tolist() == [[row] * 3 for row in range(5)]
    assert answers.more["tokens"].tolist() == [[0, 0, 0], [1, 1, 1], [2, 0, 0], [3, 3, 0], [4, 4, 4]]
    assert answers.class_names == ("a", "b")


def test_a_lone_pass_is_put_in_order_too() -> None:
    assert joined([made([2, 0, 1])]).texts == made([0, 1, 2]).texts
    in_order = made([0, 1])
    assert joined([in_order]) is in_order


def test_chosen_rows_are_whole() -> None:
    whole = joined([made([0, 1, 2, 3])])
    part = chosen(whole, np.array([3, 1]))
    wanted = made([3, 1])
    assert part.rows.tolist() == [3, 1]
    assert part.columns == wanted.columns
    assert part.texts == wanted.texts
    assert part.columns == wanted.columns
    for name in ("more", "vectors"):
        for key, value in getattr(wanted, name).items():
            np.testing.assert_array_equal(getattr(part, name)[key], value)
