"""Outputter `xlsx`, in its own environment: what is in the sheet, as another library reads it."""

import importlib.util
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
import xlsx

from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import SceneError

LOGITS = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], np.float32)
TEXTS = ["fine", "=1+1", "https://example.org\tand\nmore"]


def made(
    scores: np.ndarray,
    problem: Any = "single_label_classification",
    names: tuple[str, ...] = ("bad", "good"),
    **columns: list[str],
) -> Predictions:
    return Predictions(np.arange(len(scores)), problem, scores, class_names=names, columns=columns)


def assembled(rows: Sequence[bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    xlsx.Xlsx(**options).assemble(iter(rows), len(rows), file)
    return file.getvalue()


def sheets(data: bytes) -> dict[str, list[list[Any]]]:
    """The cells of each sheet, by its name."""
    book = openpyxl.load_workbook(io.BytesIO(data))
    return {sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book}


def test_a_row_a_line_with_the_score_of_each_class() -> None:
    rows = xlsx.Xlsx().format(made(LOGITS, text=TEXTS))
    ((head, *lines),) = sheets(assembled(rows)).values()
    assert head == ["text", "class", "score bad", "score good"]
    assert [line[:2] for line in lines] == [[TEXTS[0], "good"], [TEXTS[1], "bad"], [TEXTS[2], "bad"]]
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    assert np.allclose([line[2:] for line in lines], shares, rtol=1e-6)


def test_texts_are_never_formulas_or_links() -> None:
    rows = xlsx.Xlsx().format(made(LOGITS, text=TEXTS))
    sheet = openpyxl.load_workbook(io.BytesIO(assembled(rows))).active
    assert [cell.data_type for cell in sheet["A"]] == ["s"] * 4
    assert not any(cell.hyperlink for cell in sheet["A"])


@pytest.mark.parametrize(
    ("scores", "problem", "names", "head", "line"),
    [
        ([[2.5]], "regression", (), ["score"], [2.5]),
        ([[2.5, 1]], "regression", (), ["score 0", "score 1"], [2.5, 1]),
        ([[0.0]], "single_label_classification", ("no", "yes"), ["class", "score yes"], ["no", 0.5]),
        ([[0.0, 0]], "single_label_classification", (), ["class", "score 0", "score 1"], ["0", 0.5, 0.5]),
        ([[9e9, -9e9]], "multi_label_classification", ("a", "b"), ["class", "score a", "score b"], ["a", 1, 0]),
        ([[9e9, 9e9]], "multi_label_classification", ("a", "b"), ["class", "score a", "score b"], ["a, b", 1, 1]),
        ([[np.nan, 1]], "single_label_classification", (), ["class", "score 0", "score 1"], ["0", None, None]),
        ([[np.inf]], "regression", (), ["score"], [None]),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_every_problem(
    scores: list[list[float]], problem: str, names: tuple[str, ...], head: list[str], line: list[Any]
) -> None:
    outputter, given = xlsx.Xlsx(), made(np.array(scores, np.float32), problem, names)
    (row,) = outputter.format(given)
    (found,) = sheets(assembled([row])).values()
    assert found[0] == head
    assert (found[1:] or [[None]]) == [line]  # nothing is read where a row is empty
    assert tuple(outputter.read(row, ())[0]) == outputter.columns(problem, ())


def test_the_same_rows_make_the_same_file() -> None:
    rows = xlsx.Xlsx().format(made(LOGITS, text=TEXTS))
    assert assembled(rows) == assembled(rows)
    assert sheets(assembled([]))  # a sheet, though an empty one


def test_what_is_too_much_for_a_sheet_or_a_cell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(xlsx, "MOST_ROWS", 2)
    rows = xlsx.Xlsx().format(made(LOGITS, text=["a" * 40_000, "b", "c"]))
    found = sheets(assembled(rows, xlsx_sheet="two"))
    assert list(found) == ["two", "two 2"]
    assert [line[0] for line in found["two"]] == ["text", "a" * 32_767, "b"]
    assert [line[0] for line in found["two 2"]] == ["text", "c"]
    assert "xlsx: 1 texts of more than 32,767 characters were cut" in capfd.readouterr().err


def test_rows_without_result_columns() -> None:
    rows = xlsx.Xlsx().format(made(LOGITS))
    assert [json.loads(row)["class"] for row in rows] == ["good", "bad", "bad"]


@pytest.mark.parametrize("name", ["", "a" * 26, "a/b", "'quoted'"])
def test_a_name_that_excel_does_not_take(name: str) -> None:
    with pytest.raises(SceneError, match=r"^xlsx_sheet = .* is no name of a sheet; give"):
        xlsx.Xlsx(xlsx_sheet=name)


def test_a_result_column_with_a_name_of_the_sheet() -> None:
    with pytest.raises(SceneError, match="column 'class' has the name of one that xlsx writes; rename it"):
        xlsx.Xlsx().columns("single_label_classification", ("text", "class"))


def test_the_environment_is_light() -> None:
    for module in ("torch", "transformers", "deepspeed", "datasets", "mlflow"):
        assert importlib.util.find_spec(module) is None
    assert ".venv" in Path(xlsx.xlsxwriter.__file__).parts
