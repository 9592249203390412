"""Outputter `xlsx`: predictions as an Excel sheet, with a column for each class's score."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Annotated, Any

import xlsxwriter

from deepgen.kernel.contracts import Outputter, Predictions, Problem
from deepgen.kernel.errors import SceneError
from deepgen.kernel.options import Range
from deepgen.kernel.probabilities import probabilities
from deepgen.kernel.registry import outputter

MOST_ROWS = 1_048_575
"""Of a sheet, below its header."""
OWN = ("class", "scores")


@outputter("xlsx")
@dataclass
class Xlsx(Outputter):
    """An Excel sheet with a header: the result columns, the best class, and a column for the score of each class.

    Scores are as in `score`: the softmax over the classes, the sigmoid of each class, or the numbers of a regression,
    which has no class. Multi-label: all classes above 0.5, divided by commas. A score that is no finite number is an
    empty cell. Excel takes 1,048,575 rows a sheet, further ones go to further sheets; and 32,767 characters a cell,
    longer texts are cut, and their number is said in the log.
    """

    fits = frozenset({"regression", "single_label_classification", "multi_label_classification"})
    extension = ".xlsx"

    xlsx_sheet: str = "predictions"
    """Name of the sheet."""
    xlsx_decimals: Annotated[int, Range(0, 15)] = 4
    """Digits after the point that Excel shows of a score; the cell has all of them."""

    def __post_init__(self) -> None:
        name = self.xlsx_sheet
        if not 0 < len(name) <= 25 or set(name) & set("[]:*?/\\") or name.strip("'") != name:
            raise SceneError(
                f"xlsx_sheet = '{name}' is no name of a sheet; give 1 to 25 characters without [ ] : * ? / \\ and not "
                "between apostrophes"
            )

    def check(self, scene: Any, splits: Sequence[str]) -> Sequence[str]:
        """Refuses a scene whose result columns are named as the sheet's own."""
        _refuse_own(scene.values["result_header"].value)
        return ()

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        """What `read` gives."""
        _refuse_own(result_columns)
        return (*result_columns, *(OWN[1:] if problem == "regression" else OWN))

    def format(self, predictions: Predictions) -> list[bytes]:
        """Each row as JSON, from which `assemble` makes the sheet."""
        scores = probabilities(predictions)
        names = _names(predictions, scores.shape[1])
        rows: list[dict[str, Any]] = [{} for _ in predictions.rows]
        for column, cells in predictions.columns.items():
            for row, cell in zip(rows, cells, strict=True):
                row[column] = cell
        if predictions.problem != "regression":
            for row, best in zip(rows, _best(predictions, names), strict=True):
                row["class"] = best
        shown = names[-1:] if scores.shape[1] == 1 else names
        for row, numbers in zip(rows, scores.tolist(), strict=True):
            row["scores"] = {name: _finite(number) for name, number in zip(shown, numbers, strict=True)}
        return [json.dumps(row, ensure_ascii=False).encode() for row in rows]

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The values of a row by column; `scores` by class."""
        return [json.loads(row)]

    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        """Writes the sheet a row at a time, so that memory stays small; the same rows make the same bytes."""
        cut = 0
        with xlsxwriter.Workbook(file, {"constant_memory": True}) as book:
            book.set_properties({"created": datetime(2000, 1, 1)})
            bold = book.add_format({"bold": True})
            shown = book.add_format({"num_format": f"0.{'0' * self.xlsx_decimals}".rstrip(".")})
            sheet = book.add_worksheet(self.xlsx_sheet)
            for number, line in enumerate(rows):
                row = _spread(json.loads(line))
                place = number % MOST_ROWS
                if place == 0:
                    if number:
                        sheet = book.add_worksheet(f"{self.xlsx_sheet} {number // MOST_ROWS + 1}")
                    sheet.freeze_panes(1, 0)
                    for column, name in enumerate(row):
                        sheet.write_string(0, column, name, bold)
                for column, value in enumerate(row.values()):
                    if isinstance(value, str):  # never as a formula or a link, whatever it looks like
                        cut += sheet.write_string(place + 1, column, value) == -2
                    elif value is not None:
                        sheet.write_number(place + 1, column, value, shown)
        if cut:
            print(f"xlsx: {cut} texts of more than 32,767 characters were cut", file=sys.stderr)


def _refuse_own(columns: Sequence[str]) -> None:
    for name in columns:
        if name in OWN:
            raise SceneError(f"result_header: column '{name}' has the name of one that xlsx writes; rename it")


def _names(predictions: Predictions, width: int) -> tuple[str, ...]:
    """Names of the classes, which are two where there is one logit; numbers where the model has none."""
    if predictions.problem == "regression":
        return ("",) if width == 1 else tuple(map(str, range(width)))
    classes = 2 if width == 1 and predictions.problem == "single_label_classification" else width
    given = predictions.class_names
    return tuple(given) if len(given) == classes else tuple(map(str, range(classes)))


def _best(predictions: Predictions, names: Sequence[str]) -> list[str]:
    """The text of the class of each row."""
    logits = predictions.scores
    assert logits is not None, "these problems have scores"
    if predictions.problem == "multi_label_classification":
        chosen = (logits > 0).tolist()
        return [", ".join(name for name, one in zip(names, row, strict=True) if one) for row in chosen]
    best = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(axis=1)
    return [names[one] for one in best.tolist()]


def _finite(number: float) -> float | None:
    return number if abs(number) < float("inf") else None


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    """The cells of a row by what stands above them."""
    scores = row.pop("scores")
    return {**row, **{f"score {name}".strip(): number for name, number in scores.items()}}
