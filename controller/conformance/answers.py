"""Predictions of each problem for some rows; what a row holds depends on its number alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from ...kernel.contracts import Predictions, Problem

CLASSES = ("x", "y", "z")
RESULT_COLUMNS = ("query", "note")
_TEXTS = ("the film was good", "we left early", "it rained", "a long warm day", "")


def predictions(problem: str, rows: Sequence[int] | np.ndarray, columns: Sequence[str] = RESULT_COLUMNS) -> Predictions:
    """A model's answers, with labels and references, and further arrays as models give."""
    places = np.asarray(rows, np.int64)
    made = Predictions(places, cast(Problem, problem))
    made.columns = {name: [f"{name} {row} it was" for row in places.tolist()] for name in columns}
    wide = _numbers(places, 8)
    if problem == "regression":
        made.scores, made.labels = wide[:, :1], wide[:, 1]
        made.more = {"extra": wide[:, 2]}
    elif problem == "single_label_classification":
        made.scores, made.labels = wide[:, :3], places % 3
        made.more = {"grid": wide[:, :4].reshape(-1, 2, 2), "tokens": places % 5}
    elif problem == "multi_label_classification":
        made.scores, made.labels = wide[:, :3], (wide[:, 3:6] > 0).astype(np.float32)
    elif problem == "embedding":
        made.vectors = {"q": wide[:, :4], "d": wide[:, 4:]}
    else:
        made.texts = [[_TEXTS[row % 5], _TEXTS[(row + 1) % 4]] for row in places.tolist()]
        made.references = [_TEXTS[row % 4] for row in places.tolist()]
    if problem == "masked_text":
        tokens = places % 4
        made.more = {
            "masked_loss": np.abs(wide[:, 0]) * tokens,
            "masked_right": np.minimum(tokens, places % 3).astype(np.float32),
            "masked_tokens": tokens,
        }
        made.references = None
    if problem.endswith("label_classification"):
        made.class_names = CLASSES
    return made


def taken(whole: Predictions, places: Sequence[int] | np.ndarray) -> Predictions:
    """Some of the rows, in that order."""
    at = np.asarray(places, np.int64)
    order: list[int] = at.tolist()
    return Predictions(
        rows=whole.rows[at],
        problem=whole.problem,
        scores=None if whole.scores is None else whole.scores[at],
        texts=None if whole.texts is None else [whole.texts[place] for place in order],
        labels=None if whole.labels is None else whole.labels[at],
        references=None if whole.references is None else [whole.references[place] for place in order],
        class_names=whole.class_names,
        columns={name: [texts[place] for place in order] for name, texts in whole.columns.items()},
        more={name: values[at] for name, values in whole.more.items()},
        vectors={side: values[at] for side, values in whole.vectors.items()},
    )


def _numbers(rows: np.ndarray, count: int) -> np.ndarray:
    """[rows, count] float32 between -4 and 4, without two that are equal for most rows."""
    places = rows[:, None] * 8 + np.arange(count)
    made: np.ndarray = (((places * 7919 + 13) % 8191) / 1024 - 4).astype(np.float32)
    return made
