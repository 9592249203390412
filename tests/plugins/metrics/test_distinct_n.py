"""`distinct_n` by hand: shares of different tokens, pairs and texts within each row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.distinct_n import KEYS, DistinctN


def scores(*texts: list[str]) -> list[float]:
    metric = DistinctN()
    made = metric.compute(metric.update(Predictions(np.arange(len(texts)), "text", texts=list(texts))))
    return [made[key] for key in KEYS]


def test_it_is_the_mean_over_the_rows() -> None:
    # 3 of 6 tokens, 3 of 4 pairs, 2 of 2 texts; all the same: 2 of 4, 1 of 2, 1 of 2
    assert scores(["a b c", "a b a"]) == pytest.approx([3 / 6, 3 / 4, 1])
    assert scores(["a b", " a b "]) == pytest.approx([2 / 4, 1 / 2, 1 / 2])
    assert scores(["a b c", "a b a"], ["a b", "a b"]) == pytest.approx([1 / 2, 5 / 8, 3 / 4])


def test_a_text_that_repeats_itself_is_less_distinct() -> None:
    assert scores(["a a a a"]) == pytest.approx([1 / 4, 1 / 3, 1])


def test_rows_without_pairs_do_not_count() -> None:
    assert scores(["a", "b"], ["a b", "a b"]) == pytest.approx([3 / 4, 1 / 2, 3 / 4])
    assert math.isnan(scores(["a", "b"])[1])
    assert scores([""])[2] == 1


def test_ranks_add_up() -> None:
    metric, rows = DistinctN(), [["a b c", "a b a"], ["x y", "y x"], ["q", "q"]]
    parts = [metric.update(Predictions(np.arange(len(part)), "text", texts=part)) for part in (rows[:1], rows[1:])]
    whole = metric.update(Predictions(np.arange(3), "text", texts=rows))
    assert metric.compute(metric.merge(parts)) == metric.compute(whole)


def test_no_rows() -> None:
    assert all(math.isnan(value) for value in DistinctN().compute({}).values())
