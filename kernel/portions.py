"""Answers of several forward passes as one, and some rows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .contracts import Predictions


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The answers of several forward passes, in the order of their row numbers.

    Where rows of one pass are wider than those of another (numbers for each token), the others get zeros at their ends.
    """
    first = parts[0]
    numbers = np.concatenate([part.rows for part in parts])
    order = np.argsort(numbers, kind="stable")
    if len(parts) == 1 and bool((np.diff(numbers) >= 0).all()):
        return first
    places = order.tolist()
    texts = None
    if first.texts is not None:
        every = [texts for part in parts for texts in part.texts or ()]
        texts = [every[place] for place in places]
    columns = {}
    for name in first.columns:
        values = [text for part in parts for text in part.columns[name]]
        columns[name] = [values[place] for place in places]
    return replace(
        first,
        rows=numbers[order],
        scores=None if first.scores is None else _stacked([_known(part.scores) for part in parts])[order],
        texts=texts,
        columns=columns,
        more=_each([part.more for part in parts], order),
        vectors=_each([part.vectors for part in parts], order),
    )


def portion(answers: Predictions, begin: int, end: int) -> Predictions:
    """The rows from the `begin`-th up to the `end`-th of some answers."""
    return replace(
        answers,
        rows=answers.rows[begin:end],
        scores=None if answers.scores is None else answers.scores[begin:end],
        texts=None if answers.texts is None else answers.texts[begin:end],
        columns={name: values[begin:end] for name, values in answers.columns.items()},
        more={name: values[begin:end] for name, values in answers.more.items()},
        vectors={name: values[begin:end] for name, values in answers.vectors.items()},
    )


def _known(array: np.ndarray | None) -> np.ndarray:
    assert array is not None, "passes of one model give the same"
    return array


def _each(parts: Sequence[Mapping[str, np.ndarray]], order: np.ndarray) -> dict[str, np.ndarray]:
    return {name: _stacked([part[name] for part in parts])[order] for name in parts[0]}


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays below each other, as wide as the widest."""
    widest = tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))
    padded = [
        np.pad(array, [(0, 0), *((0, wide - size) for wide, size in zip(widest, array.shape[1:], strict=True))])
        if array.shape[1:] != widest
        else array
        for array in arrays
    ]
    return np.concatenate(padded)
