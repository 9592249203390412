"""JSON lines: one object a row, with its row number, the result columns and what was predicted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.errors import SceneError
from ...kernel.probabilities import probabilities
from ...kernel.registry import outputter
from .multi_class import best_classes
from .score import numerals

FIELDS: dict[Problem, tuple[str, ...]] = {
    "regression": ("predicted_score",),
    "single_label_classification": ("predicted_label", "predicted_scores"),
    "multi_label_classification": ("predicted_labels", "predicted_scores"),
    "text": ("predicted_texts",),
    "masked_text": ("predicted_texts",),
}


@outputter("jsonl")
@dataclass
class JsonLines(Outputter):
    """One JSON object a line: `row` (from 0), the result columns, and by problem

    - regression: `predicted_score`, a number, or a list where a row has several;
    - single-label: `predicted_label` and `predicted_scores`, the softmax by class name;
    - multi-label: `predicted_labels` (those above 0.5) and `predicted_scores`, the sigmoid by class name;
    - text, also behind masks: `predicted_texts`, best first.

    Classes without names are numbers, and their scores a list. With one logit there are two classes, and the list has
    the score of class 1. A score that is no finite number is null.
    """

    fits = frozenset(FIELDS)
    extension = ".jsonl"

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        names = ("row", *result_columns, *FIELDS[problem])
        for name in result_columns:
            if names.count(name) > 1:
                raise SceneError(f"result_header: column '{name}' has the name of a field that jsonl writes; rename it")
        return names

    def format(self, predictions: Predictions) -> list[str]:
        heads = [f'{{"row": {row}' for row in predictions.rows.tolist()]
        for name, cells in predictions.columns.items():
            key = json.dumps(name, ensure_ascii=False)
            heads = [f"{head}, {key}: {_text(cell)}" for head, cell in zip(heads, cells, strict=True)]
        return [f"{head}, {rest}}}\n" for head, rest in zip(heads, _predicted(predictions), strict=True)]

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        return [json.loads(row)]


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _predicted(predictions: Predictions) -> Iterator[str]:
    """The fields of each row, as JSON."""
    if predictions.texts is not None:
        yield from (f'"predicted_texts": {json.dumps(texts, ensure_ascii=False)}' for texts in predictions.texts)
        return
    assert predictions.scores is not None, "these problems have scores"
    logits, values = predictions.scores, probabilities(predictions)
    rows = [[number if number[-1].isdigit() else "null" for number in row] for row in numerals(values, None)]
    if predictions.problem == "regression":
        yield from (f'"predicted_score": {row[0] if len(row) == 1 else _list(row)}' for row in rows)
        return
    lone = predictions.problem == "single_label_classification" and values.shape[1] == 1
    classes = 2 if lone else values.shape[1]
    named = len(predictions.class_names) == classes
    labels = [_text(name) for name in predictions.class_names] if named else [str(index) for index in range(classes)]
    scores = [_object(labels, row) if named and not lone else _list(row) for row in rows]
    if predictions.problem == "multi_label_classification":
        for chosen, shown in zip((logits > 0).tolist(), scores, strict=True):
            over = [label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]
            yield f'"predicted_labels": {_list(over)}, "predicted_scores": {shown}'
        return
    for index, shown in zip(best_classes(logits).tolist(), scores, strict=True):
        yield f'"predicted_label": {labels[index]}, "predicted_scores": {shown}'


def _list(items: list[str]) -> str:
    return f"[{', '.join(items)}]"


def _object(names: list[str], values: list[str]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True)) + "}"
