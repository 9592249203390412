"""Score lines: the result columns, then the scores of the row, divided by commas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.lines import ESCAPES
from ...kernel.options import Range
from ...kernel.probabilities import probabilities
from ...kernel.registry import outputter

if TYPE_CHECKING:
    import numpy as np

_TABLE = str.maketrans(ESCAPES)


@outputter("score")
@dataclass
class Score(Outputter):
    """Result columns and scores, divided by TAB, one row a line, without a header line.

    Regression: the raw values. Single-label: the softmax over the classes, `0.2689414,0.7310586`; with one logit, the
    probability of class 1. Multi-label: the sigmoid of each class. Backslash, TAB, newline and carriage return in a
    result column are written as \\\\, \\t, \\n and \\r, so that a row stays a line.
    """

    fits = frozenset({"regression", "single_label_classification", "multi_label_classification"})

    score_precision: Annotated[int | None, Range(0, 17)] = None
    """Digits after the point; by default the fewest that read back as the same 32-bit number."""

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "scores")

    def format(self, predictions: Predictions) -> list[str]:
        columns = [escape(column) for column in predictions.columns.values()]
        scores = joined(numerals(probabilities(predictions), self.score_precision))
        return ["\t".join(cells) + "\n" for cells in zip(*columns, scores, strict=True)]

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        return [{**line, "scores": numbers(line["scores"])} for line in super().read(row, columns)]


def numerals(values: np.ndarray, precision: int | None) -> list[list[str]]:
    """[rows][classes] numbers as text; without a precision the fewest digits that read back as the same float32."""
    rows, classes = values.shape
    if precision is None:
        import numpy as np
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel()).cast(pa.string()).to_pylist()
    else:
        one = f"%.{precision}f"
        flat = [one % value for value in values.ravel().tolist()]
    return [flat[start : start + classes] for start in range(0, rows * classes, classes)]


def joined(rows: list[list[str]]) -> list[str]:
    """Each row divided by commas."""
    return [",".join(row) for row in rows]


def numbers(cell: str) -> list[float]:
    """The numbers of a cell."""
    return [float(number) for number in cell.split(",") if number]


def escape(texts: Sequence[str]) -> Sequence[str]:
    """Texts that hold no TAB and no end of a line; a backslash begins an escape."""
    together = "".join(texts)
    if not any(sign in together for sign in "\\\t\n\r"):
        return texts
    return [text.translate(_TABLE) for text in texts]
