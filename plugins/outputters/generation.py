"""Generation lines: the result columns, a generated text and its number, one line a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.registry import outputter
from .score import escape


@outputter("generation")
@dataclass
class Generation(Outputter):
    """Result columns, generated text and its number j (0 is the best), divided by TAB, without a header line.

    A row with n returned sequences has n lines, one after the other. Backslash, TAB, newline and carriage return in a
    text or a result column are written as \\\\, \\t, \\n and \\r, so that each sequence is one line.
    """

    fits = frozenset({"text", "masked_text"})

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "text", "j")

    def format(self, predictions: Predictions) -> list[str]:
        assert predictions.texts is not None, "this problem has texts"
        columns = [escape(column) for column in predictions.columns.values()]
        heads = ["".join(f"{cell}\t" for cell in cells) for cells in zip(*columns, strict=True)]
        heads = heads or [""] * len(predictions.texts)
        return [
            "".join(f"{head}{text}\t{j}\n" for j, text in enumerate(escape(texts or [""])))
            for head, texts in zip(heads, predictions.texts, strict=True)
        ]

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        return [{**line, "j": int(line["j"])} for line in super().read(row, columns)]
