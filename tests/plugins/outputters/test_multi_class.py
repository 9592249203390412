"""Class lines: texts by mapping, by name and by number, and mappings that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import SceneError
from deepgen.kernel.settings import load
from deepgen.plugins.outputters.multi_class import MultiClass

SCORES: list[list[float]] = [[0.0, 1, -1], [2, 1, 2], [0, 0, 9]]


def lines(
    scores: list[list[float]],
    mapping: Mapping[str, str] | None = None,
    names: tuple[str, ...] = (),
    columns: Mapping[str, list[str]] | None = None,
) -> list[str]:
    values = np.array(scores, np.float32)
    predictions = Predictions(
        np.arange(len(values)), "single_label_classification", values, class_names=names, columns=columns or {}
    )
    return MultiClass(dict(mapping or {})).format(predictions)


def test_the_text_of_the_best_class() -> None:
    assert lines(SCORES, {"0": "bad", "1": "so-so", "2": "good", "3": "?"}) == ["so-so\n", "bad\n", "good\n"]
    assert lines(SCORES, names=("a", "b", "c")) == ["b\n", "a\n", "c\n"]
    assert lines(SCORES, {"0": "x", "1": "y", "2": "z"}, ("a", "b", "c")) == ["y\n", "x\n", "z\n"]
    assert lines(SCORES) == ["1\n", "0\n", "2\n"]


def test_one_logit_has_two_classes() -> None:
    assert lines([[0.0], [0.1]]) == ["0\n", "1\n"]
    assert lines([[0.0], [0.1]], {"0": "bad", "1": "good"}) == ["bad\n", "good\n"]


def test_result_columns_come_first_and_nothing_breaks_a_line() -> None:
    assert lines([[0, 1]], {"0": "b", "1": "a\tb"}, columns={"text": ["two\nlines"]}) == ["two\\nlines\ta\\tb\n"]
    assert MultiClass().columns("single_label_classification", ("text",)) == ("text", "class")


def test_a_mapping_that_leaves_a_class_out() -> None:
    with pytest.raises(SceneError, match="output_mapping has no text for class 0, 2; there are the classes 0 to 2"):
        lines(SCORES, {"1": "x"})
    for wrong in ("bad", "-1", "01", "1:a"):
        with pytest.raises(SceneError, match=f"output_mapping: '{wrong}' is no class number"):
            MultiClass({wrong: "0"})


def test_it_is_refused_before_the_run_where_the_classes_are_known(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("fine\tgood\npoor\tbad\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "scene.yaml").write_text(
        "task: seq2label\nmodel: model\ntrain_dir: rows.tsv\npredict_dir: rows.tsv\ntrain_header: text,label\n"
        "train_model_header: cls_tokenize:text:tokens,label_mapping:label:labels\noutput_type: multi_class\n"
        "label_mapping: {bad: 0, good: 1}\noutput_mapping: {0: 'no', 1: 'yes'}\n"
    )
    check(load(str(tmp_path / "scene.yaml"), []))
    with pytest.raises(SceneError, match="--output_mapping has no text for class 1"):
        check(load(str(tmp_path / "scene.yaml"), ["--output_mapping", "0:bad"]))


def test_no_rows_give_no_lines() -> None:
    values = np.zeros((0, 2), np.float32)
    assert MultiClass().format(Predictions(np.arange(0), "single_label_classification", values)) == []
