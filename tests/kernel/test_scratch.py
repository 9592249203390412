"""Scratch files: a config, and a tokenizer trained on the training columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from deepgen.kernel import tokenizer_training
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings

TEXTS = ["c a t", "K AE T", "b o a t", "B OW T", "c a b", "K AE B"]
SMALL = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def scratch(tmp_path: Path, content: object, texts: Iterable[str] | None = TEXTS) -> Pretrained:
    file = tmp_path / "model.json"
    file.write_text(json.dumps(content))
    return Pretrained(PretrainedSettings(model=f"scratch:{file}"), None if texts is None else lambda: texts)


def test_word_level_text_comes_back_with_spaces(tmp_path: Path) -> None:
    pretrained = scratch(tmp_path, {"model_type": "t5", "tokenizer": {"model": "word_level"}})
    tokenizer = pretrained.tokenizer
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    ids = tokenizer(["K AE T"])["input_ids"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == ["K AE T"]
    assert ids[0][-1] == tokenizer.eos_token_id
    pretrained.save_tokenizer(tmp_path / "saved")
    again = quiet_transformers().AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
    assert again(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert again.decode(ids[0], skip_special_tokens=True) == "K AE T"


@pytest.mark.parametrize("model", ["word_level", "word_piece", "bpe", "unigram"])
def test_sentinels_are_special_tokens(tmp_path: Path, model: str) -> None:
    pretrained = scratch(tmp_path, {"model_type": "t5", "tokenizer": {"model": model, "extra_ids": 3}})
    pretrained.save_tokenizer(tmp_path / "saved")
    for tokenizer in (
        pretrained.tokenizer,
        quiet_transformers().AutoTokenizer.from_pretrained(str(tmp_path / "saved")),
    ):
        marks = [f"<extra_id_{number}>" for number in range(3)]
        ids = tokenizer(f"c {marks[0]} t {marks[2]}", add_special_tokens=False)["input_ids"]
        assert [token for token in tokenizer.convert_ids_to_tokens(ids) if token in marks] == [marks[0], marks[2]]
        assert not [mark for mark in marks if mark in tokenizer.decode(ids, skip_special_tokens=True)]
        assert "<extra_id_3>" not in tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("kind", "start"), [("t5", "<pad>"), ("bart", "</s>"), ("marian", "<pad>"), ("pegasus", "<pad>"), ("mbart", "</s>")]
)
def test_ids_come_from_the_tokenizer(tmp_path: Path, kind: str, start: str) -> None:
    pretrained = scratch(tmp_path, {"model_type": kind, "tokenizer": {"model": "word_level"}})
    config, tokenizer = pretrained.config, pretrained.tokenizer
    assert config.vocab_size == len(tokenizer)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert config.decoder_start_token_id == tokenizer.convert_tokens_to_ids(start)


def test_weights_follow_the_seed_and_are_all_new(tmp_path: Path) -> None:
    pretrained = scratch(tmp_path, {"model_type": "t5", **SMALL, "tokenizer": {"model": "word_level"}})
    modules = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        modules.append(pretrained.load("AutoModelForSeq2SeqLM").state_dict()["shared.weight"])
    assert modules[0].dtype == torch.float32
    assert torch.equal(modules[0], modules[1])
    assert not torch.equal(modules[0], modules[2])
    assert pretrained.new_parameters == frozenset()


def test_trained_once_for_the_same_texts(tmp_path: Path) -> None:
    content = {"model_type": "t5", "tokenizer": {"model": "bpe", "vocab_size": 280}}
    first, second = scratch(tmp_path, content), scratch(tmp_path, content)
    assert first.fingerprint == second.fingerprint
    assert len(list((tmp_path / "cache" / "deepgen" / "tokenizers").iterdir())) == 1
    other = scratch(tmp_path, content, ["other", "texts"])
    assert other.fingerprint != first.fingerprint


def test_one_that_was_trained_otherwise_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"model_type": "t5", "tokenizer": {"model": "word_level"}}
    with monkeypatch.context() as earlier:
        earlier.setattr(tokenizer_training, "VERSION", tokenizer_training.VERSION - 1)
        before = scratch(tmp_path, content)
        assert before.tokenizer.get_vocab()
    assert scratch(tmp_path, content).fingerprint == before.fingerprint
    assert len(list((tmp_path / "cache" / "deepgen" / "tokenizers").iterdir())) == 2


def test_fingerprint_follows_the_positions_and_no_other_size(tmp_path: Path) -> None:
    content = {"model_type": "bart", "max_position_embeddings": 64, "tokenizer": {"model": "word_level"}}
    plain = scratch(tmp_path, content).fingerprint
    assert scratch(tmp_path, {**content, "d_model": 64}).fingerprint == plain
    assert scratch(tmp_path, {**content, "max_position_embeddings": 32}).fingerprint != plain


@pytest.mark.parametrize("model", ["word_level", "word_piece", "bpe", "unigram"])
def test_options_of_the_tokenizer(tmp_path: Path, model: str) -> None:
    texts = ["Some Words and some more words", "Other WORDS"] * 5
    block = {"model": model, "vocab_size": 300, "lowercase": True, "max_length": 77}
    tokenizer = scratch(tmp_path, {"model_type": "bert", "tokenizer": block}, texts).tokenizer
    assert tokenizer.model_max_length == 77
    assert len(tokenizer) <= 300
    assert tokenizer("SOME words")["input_ids"] == tokenizer("some WORDS")["input_ids"]


def test_template(tmp_path: Path) -> None:
    block = {"model": "word_level", "template": ["<s> $A </s>", "<s> $A </s> $B </s>"]}
    tokenizer = scratch(tmp_path, {"model_type": "bart", "tokenizer": block}).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("c", "a")["input_ids"]) == ["<s>", "c", "</s>", "a", "</s>"]


def test_tokenizer_from_a_folder(tmp_path: Path) -> None:
    made = scratch(tmp_path, {"model_type": "t5", "tokenizer": {"model": "word_level"}})
    made.save_tokenizer(tmp_path / "tokenizer")
    again = scratch(tmp_path, {"model_type": "bart", "tokenizer": "tokenizer"}, None)
    assert again.tokenizer(TEXTS)["input_ids"] == made.tokenizer(TEXTS)["input_ids"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tokenizer": {"model": "bpe"}}, "needs a model_type, such as t5, bart or bert"),
        ({"model_type": "t5"}, "needs a tokenizer: a block such as"),
        (
            {"model_type": "t5", "tokenizer": {"modell": "bpe"}},
            "tokenizer has no setting 'modell'; did you mean 'model'",
        ),
        ({"model_type": "t5", "tokenizer": {"model": "bpi"}}, "tokenizer model = 'bpi' is not one of word_level"),
        (
            {"model_type": "t5", "tokenizer": {"vocab_size": "many"}},
            "tokenizer vocab_size = 'many' is not a whole number",
        ),
        ({"model_type": "t5", "tokenizer": {"template": ["$A"]}}, "template takes two"),
        ([1], "is no mapping"),
    ],
)
def test_refused_before_anything_is_loaded(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        scratch(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "t55"}, "model_type = 't55' is no architecture of Transformers; did you mean 't5'"),
        ({"model_type": "t5", "d_modle": 8}, "t5 has no setting 'd_modle'; did you mean 'd_model'"),
        ({"model_type": "bart", "d_model": "wide"}, "model.json: .*d_model"),
    ],
)
def test_refused_configs(tmp_path: Path, content: dict[str, object], message: str) -> None:
    pretrained = scratch(tmp_path, {**content, "tokenizer": {"model": "word_level"}})
    with pytest.raises(SceneError, match=message):
        _ = pretrained.config


def test_no_training_columns(tmp_path: Path) -> None:
    pretrained = scratch(tmp_path, {"model_type": "t5", "tokenizer": {"model": "bpe"}}, None)
    with pytest.raises(SceneError, match="trained on the training columns, and this run has none"):
        _ = pretrained.tokenizer
