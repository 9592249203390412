"""Single-score lines: the result columns, then the first tensor of the prediction as the model gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.options import Range
from ...kernel.registry import outputter
from .score import escape, joined, numbers, numerals


@outputter("single_score")
@dataclass
class SingleScore(Outputter):
    """Result columns and the raw scores, divided by TAB, one row a line, without a header line.

    The scores are logits, or the numbers of a regression, without softmax or sigmoid; several in a row are divided by
    commas. Other tensors of the prediction are left out (`score_and_more` writes them). Result columns are escaped as
    in `score`.
    """

    fits = frozenset({"regression", "single_label_classification", "multi_label_classification"})

    score_precision: Annotated[int | None, Range(0, 17)] = None
    """Digits after the point; by default the fewest that read back as the same 32-bit number."""

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "scores")

    def format(self, predictions: Predictions) -> list[str]:
        assert predictions.scores is not None, "these problems have scores"
        columns = [escape(column) for column in predictions.columns.values()]
        scores = joined(numerals(predictions.scores, self.score_precision))
        return ["\t".join(cells) + "\n" for cells in zip(*columns, scores, strict=True)]

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        return [{**line, "scores": numbers(line["scores"])} for line in super().read(row, columns)]
