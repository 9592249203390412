"""`s2s_tokenize`: source and target, each with its own limit."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field, Processor
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

SOURCES, TARGETS = ["c a t", "b o a t s"], ["K AE T", "B OW T S"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretrained]:
    folder = tmp_path_factory.mktemp("scratch")
    file = folder / "small.yaml"
    file.write_text("model_type: t5\ntokenizer: {model: word_level}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield Pretrained(PretrainedSettings(model=f"scratch:{file}"), lambda: SOURCES + TARGETS)


def bound(pretrained: Pretrained | None, *inputs: str, **options: Any) -> Processor:
    processor = find("processor", "s2s_tokenize").plugin(**options)
    assert isinstance(processor, Processor)
    processor.bind(inputs, "tokens", pretrained)
    return processor


def test_source_and_target(pretrained: Pretrained) -> None:
    processor = bound(pretrained, "letters", "phones", source_max_length=5, target_max_length=4)
    made = processor.process([pa.array(SOURCES), pa.array(TARGETS)])
    call = pretrained.tokenizer
    assert made["input_ids"].to_pylist() == call(SOURCES, truncation=True, max_length=5)["input_ids"]
    assert made["labels"].to_pylist() == call(text_target=TARGETS, truncation=True, max_length=4)["input_ids"]
    assert processor.cut == {"input_ids": 1, "labels": 1}
    assert set(made) == {"input_ids", "labels"}


def test_source_alone_for_prediction(pretrained: Pretrained) -> None:
    processor = bound(pretrained, "letters")
    assert [field.name for field in processor.fields()] == ["input_ids"]
    assert list(processor.process([pa.array(SOURCES)])) == ["input_ids"]
    assert processor.reference_column() is None
    assert bound(pretrained, "letters", "phones").reference_column() == "phones"


def test_fields_are_known_without_a_tokenizer() -> None:
    assert bound(None, "letters", "phones").fields() == (
        Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),
        Field("labels", "int64", "ragged", padding=-100, side="right", length=True),
    )


def test_missing_target_is_a_bad_row(pretrained: Pretrained) -> None:
    with pytest.raises(BadRows) as error:
        bound(pretrained, "letters", "phones").process([pa.array(["a", "b"]), pa.array([None, "B"])])
    assert [(row.row, row.column) for row in error.value.rows] == [(0, "phones")]
