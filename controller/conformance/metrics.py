"""Checks of metrics: scores do not depend on how rows were put into batches and states were joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...kernel.contracts import Predictions, State
from ...kernel.payload import from_state, read, to_state, written
from .answers import predictions, taken
from .case import Case
from .checks import Wrong, check
from .subject import Failed, unlike

ROWS = 30


def _joined(case: Case, states: Sequence[State]) -> State:
    if "merge" in case.descriptor.abilities:
        return case.subject.merge(case.main, states)
    return {key: np.concatenate([state[key] for state in states]) for key in states[0]} if states else {}


def _scores(case: Case, states: Sequence[State], order: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """As the kernel does: states joined, rows put in the order of the input, scores computed."""
    state = _joined(case, states)
    back = np.argsort(order, kind="stable")
    ordered = {key: array[back] if len(array) == len(order) else array for key, array in state.items()}
    return case.subject.compute(case.main, ordered, names)


def _portions(order: np.ndarray, pieces: int) -> list[np.ndarray]:
    return [part for part in np.array_split(order, pieces) if len(part)]


def _of(case: Case, problem: str) -> tuple[Predictions, dict[str, float]]:
    whole = predictions(problem, range(ROWS))
    state = case.subject.update(case.main, whole)
    return whole, case.subject.compute(case.main, state, whole.class_names)


@check("metric.split_invariance", "However rows are put into batches, the scores are the same.", of="metric")
def split(case: Case) -> None:
    for problem in case.problems:
        whole, right = _of(case, problem)
        for pieces in (2, 7, ROWS):
            parts = _portions(np.arange(ROWS), pieces)
            states = [case.subject.update(case.main, taken(whole, part)) for part in parts]
            came = _scores(case, states, np.arange(ROWS), whole.class_names)
            if words := unlike(right, came):
                raise Wrong(f"{problem}: {ROWS} rows in one batch and in {pieces}", words, "the same scores")


@check("metric.merge_order", "In whatever order states are merged, the scores are the same.", of="metric")
def order_freedom(case: Case) -> None:
    for problem in case.problems:
        whole, right = _of(case, problem)
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(ROWS)
            states = [case.subject.update(case.main, taken(whole, part)) for part in _portions(order, 5)]
            if words := unlike(right, _scores(case, states, order, whole.class_names)):
                raise Wrong(f"{problem}: the states of 5 batches in another order", words, "the same scores")


@check(
    "metric.merge_grouping", "However states are grouped when they are merged, the scores are the same.", of="metric"
)
def associativity(case: Case) -> None:
    for problem in case.problems:
        whole, right = _of(case, problem)
        states = [case.subject.update(case.main, taken(whole, part)) for part in _portions(np.arange(ROWS), 6)]
        groups = {
            "((1 2) (3 4)) (5 6)": [[[0, 1], [2, 3]], [4, 5]],
            "1 (2 (3 (4 (5 6))))": [0, [1, [2, [3, [4, 5]]]]],
            "(((((1) 2) 3) 4) 5) 6": [[[[[[0], 1], 2], 3], 4], 5],
        }

        def merged(group: object) -> State:
            if isinstance(group, list):
                return _joined(case, [merged(one) for one in group])
            return states[int(str(group))]  # noqa: B023 - used within this turn

        for words_of, group in groups.items():
            came = _scores(case, [merged(group)], np.arange(ROWS), whole.class_names)
            if words := unlike(right, came):
                raise Wrong(f"{problem}: the states of 6 batches merged as {words_of}", words, "the same scores")


@check("metric.pure", "A state that was merged or computed from is as it was: the same calls give the same again.",
       of="metric")  # fmt: skip
def pure(case: Case) -> None:
    for problem in case.problems:
        whole, right = _of(case, problem)
        states = [case.subject.update(case.main, taken(whole, part)) for part in _portions(np.arange(ROWS), 3)]
        first = _scores(case, states, np.arange(ROWS), whole.class_names)
        for came in (_scores(case, states, np.arange(ROWS), whole.class_names), first):
            if words := unlike(right, came):
                raise Wrong(f"{problem}: three states merged and computed twice", words, "the same scores")
        state = case.subject.update(case.main, whole)
        came, again = (case.subject.compute(case.main, state, whole.class_names) for _ in range(2))
        if words := unlike(came, again):
            raise Wrong(f"{problem}: one state computed twice", words, "the same scores")


@check("metric.keys", "Compute gives the keys that are declared, the main one first, before any others.", of="metric")
def keys(case: Case) -> None:
    case.main  # noqa: B018 - skipped where it cannot be configured
    declared = list(case.configured().keys)
    if not declared or len(set(declared)) < len(declared):
        raise Wrong("Configure", f"the keys {declared}", "at least one key, each once")
    for problem in case.problems:
        _, came = _of(case, problem)
        if list(came)[: len(declared)] != declared:
            raise Wrong(f"{problem}: Compute", f"the keys {', '.join(came)}", f"{', '.join(declared)} first")


@check("metric.no_rows", "No rows have scores, too: the declared keys, nan where a score is not defined.", of="metric")
def no_rows(case: Case) -> None:
    case.main  # noqa: B018 - skipped where it cannot be configured
    declared = list(case.configured().keys)
    for problem in case.problems:
        nothing = case.subject.update(case.main, predictions(problem, []))
        for what, state in (("the state of no batch", {}), ("the state of a batch without rows", nothing)):
            names = predictions(problem, []).class_names
            try:
                came = case.subject.compute(case.main, state, names)
            except Failed as failed:
                raise Wrong(f"{problem}: {what}", failed, f"{', '.join(declared)}, nan or a number") from None
            if missing := [key for key in declared if key not in came]:
                raise Wrong(f"{problem}: {what}", f"the keys {', '.join(came) or 'none'}", f"also {missing[0]}")


@check("metric.odd_numbers", "nan and infinite scores of a model are scored, not failed on.", of="metric")
def odd_numbers(case: Case) -> None:
    for problem in case.problems:
        whole = predictions(problem, range(ROWS))
        for number in (np.nan, np.inf, -np.inf, 3e38):
            arrays = [whole.scores, *whole.vectors.values(), whole.more.get("masked_loss")]
            for array in arrays:
                if array is not None:
                    array[3] = number
            try:
                state = case.subject.update(case.main, whole)
                came = case.subject.compute(case.main, state, whole.class_names)
            except Failed as failed:
                raise Wrong(f"{problem}: {number} in row 3", failed, "scores, which may be nan") from None
            if not came:
                raise Wrong(f"{problem}: {number} in row 3", "no scores", "scores, which may be nan")


@check("metric.state_round_trip", "A state comes through Arrow with its types, shapes and bits.", of="metric")
def round_trip(case: Case) -> None:
    for problem in case.problems:
        state = case.subject.update(case.main, predictions(problem, range(ROWS)))
        back = to_state(read(written(from_state(state))))
        for name, array in state.items():
            other = back[name]
            same = np.asarray(array).shape == other.shape and np.asarray(array).dtype.kind == other.dtype.kind
            if not same or np.asarray(array).astype(other.dtype).tobytes() != other.tobytes():
                raise Wrong(
                    f"{problem}: the array {name}, {np.asarray(array).dtype} {np.asarray(array).shape}",
                    f"{other.dtype} {other.shape}",
                    "arrays of numbers or texts that Arrow holds",
                )
