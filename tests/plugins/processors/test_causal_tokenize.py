"""`causal_tokenize`: one row of tokens, whose labels are the target and its end alone."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from deepgen.kernel.contracts import BadRows, Field, Processor
from deepgen.kernel.errors import SceneError
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

SOURCES, TARGETS = ["c a t", "b o a t s", ""], ["K AE T", "B OW T S", ""]
GPT2 = "model_type: gpt2\nn_positions: 12\n"
KINDS = {
    "word_level": f"{GPT2}tokenizer: {{model: word_level}}\n",
    "bpe": f"{GPT2}tokenizer: {{model: bpe, vocab_size: 300}}\n",
    "word_piece": f"{GPT2}tokenizer: {{model: word_piece}}\n",
    "bare": f"{GPT2}tokenizer: {{model: word_piece, template: [$A, $A $B]}}\n",
    "unlimited": "model_type: bloom\ntokenizer: {model: word_level}\n",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pretrained]]:
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        for name, text in KINDS.items():
            (folder / f"{name}.yaml").write_text(text)
        yield {
            name: Pretrained(PretrainedSettings(model=f"scratch:{folder / name}.yaml"), lambda: SOURCES + TARGETS)
            for name in KINDS
        }


def bound(pretrained: Pretrained | None, *inputs: str, **options: Any) -> Processor:
    processor = find("processor", "causal_tokenize").plugin(**options)
    assert isinstance(processor, Processor)
    processor.bind(inputs, "tokens", pretrained)
    return processor


def rows(processor: Processor, pretrained: Pretrained, *columns: list[str]) -> list[str]:
    """The rows as text, a learned token in capitals as it is, any other in brackets."""
    features = {name: value.to_pylist() for name, value in processor.process([pa.array(c) for c in columns]).items()}
    labels = features.get("labels", [[-100] * len(ids) for ids in features["input_ids"]])
    shown = []
    for ids, learned in zip(features["input_ids"], labels, strict=True):
        assert len(ids) == len(learned)
        assert all(label in (token, -100) for token, label in zip(ids, learned, strict=True))
        words = pretrained.tokenizer.convert_ids_to_tokens(ids)
        shown.append(" ".join(f"({w})" if label == -100 else w for w, label in zip(words, learned, strict=True)))
    return shown


def test_source_and_target(made: dict[str, Pretrained]) -> None:
    pretrained = made["word_level"]  # its template is `$A </s>`: the end goes behind the target only
    processor = bound(pretrained, "letters", "phones")
    assert rows(processor, pretrained, SOURCES, TARGETS) == [
        "(c) (a) (t) K AE T </s>",
        "(b) (o) (a) (t) (s) B OW T S </s>",
        "(<s>) </s>",
    ]
    assert processor.cut == {"input_ids": 0, "labels": 0}
    assert rows(bound(pretrained, "letters"), pretrained, SOURCES) == [
        "(c) (a) (t)",
        "(b) (o) (a) (t) (s)",
        "(<s>)",
    ]


def test_separator_and_tokens_in_front(made: dict[str, Pretrained]) -> None:
    pretrained = made["bpe"]  # its template is `<s> $A </s>`
    processor = bound(pretrained, "letters", "phones", separator="=>", source_max_length=6)
    assert rows(processor, pretrained, ["cat", ""], ["K", ""]) == [
        "(<s>) (c) (a) (t) (=) (>) K </s>",
        "(<s>) (=) (>) </s>",
    ]
    special = bound(made["word_level"], "letters", "phones", separator="<s>")
    assert rows(special, made["word_level"], ["c a"], ["K"]) == ["(c) (a) (<s>) K </s>"]


def test_source_and_target_are_cut_on_their_own(made: dict[str, Pretrained]) -> None:
    pretrained = made["word_level"]
    processor = bound(pretrained, "letters", "phones", separator="<s>", source_max_length=4, target_max_length=4)
    assert rows(processor, pretrained, SOURCES[:2], TARGETS[:2]) == [
        "(c) (a) (t) (<s>) K AE T </s>",
        "(b) (o) (a) (t) (<s>) B OW T </s>",
    ]
    assert processor.cut == {"input_ids": 1, "labels": 1}
    alone = bound(pretrained, "letters", separator="<s>", source_max_length=4)
    assert rows(alone, pretrained, [SOURCES[1]]) == ["(b) (o) (a) (t) (<s>)"]


def test_limits_by_default(made: dict[str, Pretrained]) -> None:
    long = ["a " * 2000]
    for name, options, source, target in (
        ("word_level", {}, 6, 6),
        ("word_level", {"separator": "<s> <s>"}, 6, 4),
        ("word_level", {"target_max_length": 9}, 3, 9),
        ("word_level", {"source_max_length": 9}, 9, 3),
        ("unlimited", {}, 512, 512),
        ("unlimited", {"source_max_length": 700}, 700, 512),
    ):
        features = bound(made[name], "a", "b", **options).process([pa.array(long), pa.array(long)])
        learned = [label for label in features["labels"][0].as_py() if label != -100]
        between = len(str(options.get("separator", "")).split())
        assert len(features["input_ids"][0]) - len(learned) - between == source
        assert len(learned) == target


def test_limits_that_do_not_go_together(made: dict[str, Pretrained]) -> None:
    column = pa.array(["a"])
    with pytest.raises(SceneError, match=r"source_max_length = 8 and target_max_length = 5 .* the 12 that"):
        bound(made["word_level"], "a", "b", source_max_length=8, target_max_length=5).process([column, column])
    with pytest.raises(SceneError, match=r"target_max_length = 1 .* both have to hold text$"):
        bound(made["unlimited"], "a", "b", target_max_length=1).process([column, column])
    for name, most in (("word_level", 12), ("unlimited", 1024)):
        with pytest.raises(SceneError, match=f"separator has more tokens than the model takes: at most {most}"):
            bound(made[name], "a", "b", separator="a " * 1025).process([column, column])


def test_a_tokenizer_without_an_end_token(made: dict[str, Pretrained]) -> None:
    with pytest.raises(SceneError, match="no end token"):
        bound(made["word_piece"], "a", "b").process([pa.array(["a"]), pa.array(["a"])])
    assert rows(bound(made["bare"], "a"), made["bare"], ["c", ""]) == ["(c)", ""]


def test_fields_and_reference_are_known_without_a_tokenizer() -> None:
    tokens = Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True)
    assert bound(None, "a", "b").fields() == (tokens, Field("labels", "int64", "ragged", padding=-100))
    assert bound(None, "a").fields() == (tokens,)
    assert (bound(None, "a", "b").reference_column(), bound(None, "a").reference_column()) == ("b", None)


def test_a_missing_target_is_a_bad_row(made: dict[str, Pretrained]) -> None:
    with pytest.raises(BadRows) as error:
        bound(made["word_level"], "a", "b").process([pa.array(["a", "b"]), pa.array([None, "B"])])
    assert [(row.row, row.column) for row in error.value.rows] == [(0, "b")]
