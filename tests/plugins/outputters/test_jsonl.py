"""JSON lines for each problem."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions, Problem
from deepgen.kernel.errors import SceneError
from deepgen.plugins.outputters.jsonl import JsonLines


def rows(problem: Problem, scores: Any = None, **more: Any) -> list[dict[str, Any]]:
    values = None if scores is None else np.asarray(scores, np.float32)
    count = len(more["texts"] if values is None else values)
    found = JsonLines().format(Predictions(np.arange(count) + 5, problem, values, **more))
    assert all(line.endswith("}\n") and line.count("\n") == 1 for line in found)
    return [json.loads(line) for line in found]


def test_single_label() -> None:
    named = rows("single_label_classification", [[0, 1]], class_names=("no", "yes"), columns={"id": ['7 "x"\n']})
    scores = {"no": 0.26894143, "yes": 0.7310586}
    assert named == [{"row": 5, "id": '7 "x"\n', "predicted_label": "yes", "predicted_scores": scores}]
    plain = rows("single_label_classification", [[0, 1]])
    assert plain == [{"row": 5, "predicted_label": 1, "predicted_scores": [0.26894143, 0.7310586]}]


def test_a_lone_logit_has_two_classes() -> None:
    found = rows("single_label_classification", [[1], [-1]], class_names=("no", "yes"))
    assert [(row["predicted_label"], row["predicted_scores"]) for row in found] == [
        ("yes", [0.7310586]),
        ("no", [0.26894143]),
    ]
    assert rows("single_label_classification", [[1]])[0]["predicted_label"] == 1


def test_multi_label() -> None:
    found = rows("multi_label_classification", [[1, -1], [-1, -1]], class_names=("a", "b"))
    assert found[0]["predicted_labels"] == ["a"]
    assert found[0]["predicted_scores"] == {"a": 0.7310586, "b": 0.26894143}
    assert found[1]["predicted_labels"] == []
    assert rows("multi_label_classification", [[1, 1]])[0]["predicted_labels"] == [0, 1]
    assert rows("multi_label_classification", [[1]])[0] == {
        "row": 5,
        "predicted_labels": [0],
        "predicted_scores": [0.7310586],
    }


def test_regression() -> None:
    assert rows("regression", [[0.1], [3]]) == [{"row": 5, "predicted_score": 0.1}, {"row": 6, "predicted_score": 3}]
    assert rows("regression", [[0.1, 3]]) == [{"row": 5, "predicted_score": [0.1, 3]}]
    assert rows("regression", [[np.nan], [np.inf]]) == [
        {"row": 5, "predicted_score": None},
        {"row": 6, "predicted_score": None},
    ]


def test_text() -> None:
    texts = [["a\tb\nc", "“é”"], []]
    assert rows("text", texts=texts) == [{"row": 5, "predicted_texts": texts[0]}, {"row": 6, "predicted_texts": []}]


def test_the_fields_are_those_declared() -> None:
    outputter = JsonLines()
    found = rows("single_label_classification", [[0, 1]], columns={"id": ["7"]})
    assert tuple(found[0]) == outputter.columns("single_label_classification", ("id",))


@pytest.mark.parametrize("name", ["row", "predicted_texts"])
def test_a_column_cannot_take_the_name_of_a_field(name: str) -> None:
    with pytest.raises(SceneError, match=f"result_header: column '{name}'"):
        JsonLines().columns("text", ("id", name))


def test_no_rows_give_no_lines() -> None:
    assert rows("regression", np.zeros((0, 1)), columns={"id": []}) == []
