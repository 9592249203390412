"""The header grammar: columns, and items of one, two or more parts."""

from __future__ import annotations

import pytest

from deepgen.kernel.errors import SceneError
from deepgen.kernel.header import Item, parse_columns, parse_items


def test_columns() -> None:
    assert parse_columns([" query", "doc "], "train_header") == ("query", "doc")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["a", ""], "train_header has an empty column name"),
        (["a", "a"], "train_header names column 'a' twice"),
        (["a:b"], "'a:b' is no column name; processors belong in train_model_header"),
    ],
)
def test_bad_columns(header: list[str], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        parse_columns(header, "train_header")


def test_items_of_one_two_and_more_parts() -> None:
    header = ["query", "convert2int: labels", "cls_tokenize:query:doc:tokens", "label_mapping:labels:y"]
    assert parse_items(header, ("query", "doc", "labels"), "train_model_header") == (
        Item("query", "basic", ("query",), "query"),
        Item("convert2int: labels", "convert2int", ("labels",), "labels"),
        Item("cls_tokenize:query:doc:tokens", "cls_tokenize", ("query", "doc"), "tokens"),
        Item("label_mapping:labels:y", "label_mapping", ("labels",), "y"),
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["convert2int::labels"], "has an empty part"),
        ([""], "has an empty part"),
        (["convert2int:labls"], "reads column 'labls', which eval_header does not have; did you mean 'labels'"),
        (["zzz"], "its columns are query, labels"),
        (["query", "basic:labels:query"], "'query' and 'basic:labels:query' both give 'query'"),
    ],
)
def test_bad_items(header: list[str], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        parse_items(header, ("query", "labels"), "x.yaml:3: train_model_header", "eval_header")


def test_an_output_of_another_name_is_the_label() -> None:
    items = parse_items(["convert2int:score", "text"], ("text", "score"), "train_model_header", label="score")
    assert [item.output for item in items] == ["labels", "text"]
    with pytest.raises(SceneError, match="'convert2int:labels' and 'convert2int:score' both give 'labels'"):
        parse_items(["convert2int:labels", "convert2int:score"], ("labels", "score"), "h", label="score")
