"""Answers of several forward passes as one, and some rows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .contracts import Predictions


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The answers of several forward passes, in the order of their row numbers.

    Where rows of one pass are wider than those of another (numbers for each token), the others get zeros at their ends.
    """
    first = parts[0]
    whole = first if len(parts) == 1 else _below(parts)
    order = np.argsort(whole.rows, kind="stable")
    return whole if (order == np.arange(len(order))).all() else chosen(whole, order)


def chosen(answers: Predictions, places: np.ndarray) -> Predictions:
    """Some rows of some answers, by their places."""
    picked = places.tolist()
    return replace(
        answers,
        rows=answers.rows[places],
        scores=None if answers.scores is None else answers.scores[places],
        texts=None if answers.texts is None else [answers.texts[place] for place in picked],
        columns={name: [values[place] for place in picked] for name, values in answers.columns.items()},
        more={name: values[places] for name, values in answers.more.items()},
        vectors={name: values[places] for name, values in answers.vectors.items()},
    )


def _below(parts: Sequence[Predictions]) -> Predictions:
    """Answers below each other."""
    first = parts[0]
    return replace(
        first,
        rows=np.concatenate([part.rows for part in parts]),
        scores=None if first.scores is None else _stacked([part.scores for part in parts]),
        texts=None if first.texts is None else [texts for part in parts for texts in part.texts or ()],
        columns={name: [text for part in parts for text in part.columns[name]] for name in first.columns},
        more={name: _stacked([part.more[name] for part in parts]) for name in first.more},
        vectors={name: _stacked([part.vectors[name] for part in parts]) for name in first.vectors},
    )


def _stacked(arrays: Sequence[Any]) -> np.ndarray:
    """Arrays below each other, as wide as the widest."""
    widest = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    padded = [
        np.pad(array, [(0, 0), *((0, wide - size) for wide, size in zip(widest, array.shape[1:], strict=True))])
        if array.shape[1:] != widest
        else array
        for array in arrays
    ]
    return np.concatenate(padded)
