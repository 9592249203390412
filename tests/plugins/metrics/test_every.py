"""What holds for every metric: parts add up exactly, no rows give nan, the main key is there."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import cast

import numpy as np
import pytest

from deepgen.kernel import registry
from deepgen.kernel.contracts import Metric, Predictions, Problem

RANDOM = np.random.default_rng(7)
ROWS = 57
WORDS = np.array(["the", "cat", "sat", "on", "a", "mat"])


def some_predictions(problem: Problem) -> Predictions:
    rows = np.arange(ROWS)
    if problem == "text":
        texts = [
            [" ".join(RANDOM.choice(WORDS, RANDOM.integers(0, 9))) for _ in range(RANDOM.integers(1, 4))] for _ in rows
        ]
        references = [" ".join(RANDOM.choice(WORDS, RANDOM.integers(1, 9))) for _ in rows]
        return Predictions(rows, problem, texts=texts, references=references)
    if problem == "masked_text":
        tokens = RANDOM.integers(0, 5, ROWS)
        right, loss = RANDOM.integers(0, tokens + 1).astype(np.float32), tokens * RANDOM.random(ROWS, np.float32)
        return Predictions(rows, problem, more={"masked_loss": loss, "masked_right": right, "masked_tokens": tokens})
    if problem == "embedding":
        sides = {side: RANDOM.normal(size=(ROWS, 4)).astype(np.float32) for side in ("q", "d")}
        return Predictions(rows, problem, vectors=sides)
    scores = RANDOM.normal(size=(ROWS, 1 if problem == "regression" else 3)).astype(np.float32)
    labels: dict[str, np.ndarray] = {
        "regression": RANDOM.normal(size=ROWS).astype(np.float32),
        "single_label_classification": RANDOM.integers(0, 3, ROWS),
        "multi_label_classification": RANDOM.integers(0, 2, (ROWS, 3)).astype(np.float32),
    }
    return Predictions(rows, problem, scores, labels=labels[problem])


def part(whole: Predictions, rows: np.ndarray) -> Predictions:
    return Predictions(
        rows,
        whole.problem,
        None if whole.scores is None else whole.scores[rows],
        None if whole.texts is None else [whole.texts[row] for row in rows],
        None if whole.labels is None else whole.labels[rows],
        None if whole.references is None else [whole.references[row] for row in rows],
        more={name: values[rows] for name, values in whole.more.items()},
        vectors={side: vectors[rows] for side, vectors in whole.vectors.items()},
    )


def cases() -> list[tuple[str, Problem]]:
    found = []
    for name in sorted(registry.names("metric")):
        plugin = cast("type[Metric]", registry.find("metric", name).plugin)
        found += [(name, problem) for problem in sorted(plugin.fits)]
    return found


@pytest.mark.parametrize(("name", "problem"), cases())
def test_parts_of_any_size_and_order_add_up_exactly(name: str, problem: Problem) -> None:
    metric = cast(Metric, registry.find("metric", name).plugin())
    whole = some_predictions(problem)
    wanted = metric.compute(metric.update(whole), ("x", "y", "z"))
    order = RANDOM.permutation(ROWS)
    pieces = [order[:10], order[10:10], order[10:11], order[11:]]
    merged = metric.merge([metric.update(part(whole, rows)) for rows in pieces])
    back = np.argsort(np.concatenate(pieces))
    found = metric.compute({key: values[back] for key, values in merged.items()}, ("x", "y", "z"))
    assert found == wanted
    assert set(metric.keys()) <= set(found)
    assert all(math.isfinite(score) for score in found.values())


@pytest.mark.parametrize(("name", "problem"), cases())
def test_no_rows_give_nan(name: str, problem: Problem) -> None:
    metric = cast(Metric, registry.find("metric", name).plugin())
    nothing = metric.update(part(some_predictions(problem), np.arange(0)))
    for state in ({}, nothing, metric.merge([]), metric.merge([nothing, nothing])):
        found = metric.compute(state)
        assert set(found) >= set(metric.keys())
        assert all(math.isnan(score) for score in found.values())


def test_an_option_that_metrics_share_is_the_same_in_all() -> None:
    seen: dict[str, tuple[object, object]] = {}
    for name in sorted(registry.names("metric")):
        for field in fields(registry.find("metric", name).plugin):  # type: ignore[arg-type]  # all plugins are dataclasses
            assert seen.setdefault(field.name, (field.type, field.default)) == (field.type, field.default)
