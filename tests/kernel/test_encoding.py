"""The encoder gives exactly what the tokenizer's own call gives, for every kind of tokenizer and from many threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel.caches import CacheSettings
from deepgen.kernel.encoding import Encoder, Vocabulary
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.scratch import tokenizer_folder

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "",
    " two  spaces, a\ttab – and a dash ",
    "naïve café 東京 🙂 unseen",
    "</s> <pad> [SEP] inside a text",
    "word " * 40,
]
PAIRS = ["A second text.", "x " * 30, "", "word " * 9, "fox", "dog " * 50]


@pytest.fixture(scope="module", params=["word_level", "word_piece", "bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "config.yaml"
    file.write_text(f"model_type: bert\ntokenizer: {{model: {request.param}, vocab_size: 300}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield quiet_transformers().AutoTokenizer.from_pretrained(
            tokenizer_folder(file, lambda: TEXTS + PAIRS, CacheSettings())
        )


@pytest.mark.parametrize("max_length", [6, 16, 512])
@pytest.mark.parametrize("paired", [False, True])
def test_equal_to_the_tokenizer(tokenizer: Any, max_length: int, paired: bool) -> None:
    expected = tokenizer(TEXTS, PAIRS if paired else None, truncation=True, max_length=max_length)
    whole = tokenizer(TEXTS, PAIRS if paired else None)["input_ids"]
    encoded = Encoder(tokenizer, max_length)(list(zip(TEXTS, PAIRS, strict=True)) if paired else TEXTS)
    assert encoded.input_ids.to_pylist() == expected["input_ids"]
    assert (encoded.token_type_ids is not None) == ("token_type_ids" in expected)
    if encoded.token_type_ids is not None:
        assert encoded.token_type_ids.to_pylist() == expected["token_type_ids"]
    assert encoded.truncated.tolist() == [len(ids) > max_length for ids in whole]
    assert tokenizer(TEXTS)["input_ids"] == tokenizer(TEXTS, truncation=True, max_length=512)["input_ids"]


def test_settings_that_a_tokenizer_brings_along(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=12)
    tokenizer.save_pretrained(str(tmp_path))
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    loaded = quiet_transformers().AutoTokenizer.from_pretrained(str(tmp_path))
    encoded = Encoder(loaded, 16)(TEXTS)
    assert encoded.input_ids.to_pylist() == tokenizer(TEXTS, truncation=True, max_length=16)["input_ids"]


def test_many_threads(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, 16)
    expected = encoder(TEXTS).input_ids.to_pylist()
    with ThreadPoolExecutor(4) as pool:
        assert all(made.input_ids.to_pylist() == expected for made in pool.map(encoder, [TEXTS] * 40))


def test_mixed_rows_and_no_rows(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, 16)
    mixed = encoder([TEXTS[0], (TEXTS[0], PAIRS[0])]).input_ids.to_pylist()
    assert mixed == [
        encoder([TEXTS[0]]).input_ids.to_pylist()[0],
        encoder([(TEXTS[0], PAIRS[0])]).input_ids.to_pylist()[0],
    ]
    assert len(encoder([]).input_ids) == 0


def test_targets_of_a_tokenizer_that_marks_languages() -> None:
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581a", -1.0), ("\u2581b", -2.0)]
    tokenizer = quiet_transformers().MBartTokenizer(vocab=vocabulary, src_lang="en_XX", tgt_lang="de_DE")
    source, target = tokenizer("a b")["input_ids"], tokenizer(text_target="a b")["input_ids"]
    assert source != target
    assert Encoder(tokenizer, 10, target=True)(["a b"]).input_ids.to_pylist() == [target]
    assert Encoder(tokenizer, 10)(["a b"]).input_ids.to_pylist() == [source]
    assert tokenizer("a b")["input_ids"] == source


def test_tokenizer_written_in_python() -> None:
    tokenizer = _Letters()
    assert not tokenizer.is_fast
    encoder = Encoder(tokenizer, 4)
    assert (
        encoder(["abab", "ab"]).input_ids.to_pylist()
        == tokenizer(["abab", "ab"], truncation=True, max_length=4)["input_ids"]
    )
    paired = tokenizer(["abab"], ["aaaa"], truncation=True, max_length=4)
    assert encoder([("abab", "aaaa")]).input_ids.to_pylist() == paired["input_ids"]


def test_a_vocabulary(tokenizer: Any) -> None:
    for one in (tokenizer, _Letters()):
        one.add_tokens(["fox trot"])
        known = one.get_vocab()
        vocabulary = Vocabulary.of(one)
        assert (vocabulary.size, vocabulary.mask) == (len(one), one.mask_token_id)
        assert (vocabulary.start, vocabulary.end) == (one.bos_token_id, one.eos_token_id)
        assert list(vocabulary.special) == one.all_special_ids
        assert {token: vocabulary.id_of(token) for token in known} == known
        assert vocabulary.id_of("no such token") is None


class _Letters(quiet_transformers().PreTrainedTokenizer):  # type: ignore[misc]
    """A slow tokenizer: one id a letter."""

    model_input_names = ("input_ids", "attention_mask")

    def __init__(self) -> None:
        super().__init__(unk_token="?", pad_token="_")

    @property
    def vocab_size(self) -> int:
        return 128

    def get_vocab(self) -> dict[str, int]:
        return {chr(number): number for number in range(128)}

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return ord(token) if ord(token) < 128 else ord("?")

    def _convert_id_to_token(self, index: int) -> str:
        return chr(index)
