"""Lines of every tensor: the result columns, the raw scores, then each further tensor of the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.lines import cells
from ...kernel.options import Range
from ...kernel.registry import outputter
from .score import escape, joined, numbers, numerals

if TYPE_CHECKING:
    import numpy as np


@outputter("score_and_more")
@dataclass
class ScoreAndMore(Outputter):
    """Result columns, raw scores and every further tensor that the model predicts, such as an embedding.

    A TAB divides fields, commas the numbers of a field (a tensor of more axes is written row by row); no header line.
    The scores are logits, or the numbers of a regression. Result columns are escaped as in `score`.
    """

    fits = frozenset({"regression", "single_label_classification", "multi_label_classification"})

    score_precision: Annotated[int | None, Range(0, 17)] = None
    """Digits after the point; by default the fewest that read back as the same 32-bit number."""

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "scores", "…")

    def format(self, predictions: Predictions) -> list[str]:
        assert predictions.scores is not None, "these problems have scores"
        columns = [escape(column) for column in predictions.columns.values()]
        tensors = [self._field(tensor) for tensor in (predictions.scores, *predictions.more.values())]
        return ["\t".join(line) + "\n" for line in zip(*columns, *tensors, strict=True)]

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Further tensors have no names in the file; they are a list of lists under `…`."""
        *texts, scores, more = columns
        (line,) = cells(row)
        tensors = [numbers(cell) for cell in line[len(texts) :]]
        return [{**dict(zip(texts, line, strict=False)), scores: tensors[0], more: tensors[1:]}]

    def _field(self, tensor: np.ndarray) -> list[str]:
        """The numbers of each row; whole ones have no digits after the point."""
        rows = tensor.reshape(len(tensor), -1) if tensor.size else tensor.reshape(len(tensor), 0)
        if tensor.dtype.kind in "iub":
            return joined([[str(int(number)) for number in row] for row in rows.tolist()])
        return joined(numerals(rows, self.score_precision)) if rows.shape[1] else [""] * len(rows)
