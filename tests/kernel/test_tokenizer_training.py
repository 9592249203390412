"""Tokenizers trained from texts: the same in every process, and those of the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel.tokenizer_training import TokenizerSettings, train

SAMPLE = Path(__file__).parents[2] / "sample" / "sentiment" / "train.tsv"
KINDS = ("word_level", "word_piece", "bpe", "unigram")
PROCESS = """
import json, sys
from deepgen.kernel.tokenizer_training import TokenizerSettings, train
texts = json.load(sys.stdin)
made = {}
for kind in sys.argv[1:]:
    made[kind] = train(TokenizerSettings(model=kind, vocab_size=600), lambda: texts).backend_tokenizer.to_str()
print(json.dumps(made))
"""


@cache
def texts() -> tuple[str, ...]:
    return tuple(line.split("\t")[0] for line in SAMPLE.read_text("utf-8").splitlines()[:800])


@cache
def in_two_processes() -> list[dict[str, str]]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *KINDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    return [json.loads(process.communicate(json.dumps(texts()))[0]) for process in processes]


@pytest.mark.parametrize("model", KINDS)
def test_each_process_makes_the_same_one(model: str) -> None:
    first, second = in_two_processes()
    assert len(json.loads(first[model])["model"]["vocab"]) == 600
    assert first[model] == second[model]


def of_the_library(model: str) -> Any:
    """What the trainers of the library give by themselves."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    if model == "word_piece":
        made: Any = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = (
            normalizers.BertNormalizer(lowercase=False),
            pre_tokenizers.BertPreTokenizer(),
        )
        marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer: Any = trainers.WordPieceTrainer(vocab_size=600, special_tokens=marks, show_progress=False)
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        marks = ["<pad>", "<s>", "</s>", "<unk>"]
        trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=marks, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(texts(), trainer)
    return made


@pytest.mark.parametrize("model", ["word_piece", "unigram"])
def test_it_is_what_the_library_trains_but_for_ties(model: str) -> None:
    theirs = of_the_library(model)
    ours = train(TokenizerSettings(model=model, vocab_size=600), texts).backend_tokenizer  # type: ignore[arg-type]
    kept = json.loads(theirs.to_str())["added_tokens"]
    assert json.loads(ours.to_str())["added_tokens"] == kept
    assert [ours.id_to_token(number) for number in range(len(kept))] == [token["content"] for token in kept]
    vocabulary = ours.get_vocab()
    assert sorted(vocabulary.values()) == list(range(600))
    assert len(vocabulary.keys() & theirs.get_vocab().keys()) >= 0.95 * 600
    lengths = [
        sum(len(made.ids) for made in one.encode_batch(list(texts()), add_special_tokens=False))
        for one in (ours, theirs)
    ]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.01)


def test_pieces_of_a_word_are_those_of_the_merges() -> None:
    """The most frequent pair first; of those with one count, that of the smaller ids: `l ##o` before `##o ##w`."""
    made = train(TokenizerSettings(model="word_piece", vocab_size=100), lambda: ["low"] * 5 + ["new"] * 3)
    vocabulary = made.get_vocab()
    letters, inner = ["e", "l", "n", "o", "w"], ["##e", "##o", "##w"]
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    merged = ["lo", "low", "ne", "new"]
    assert [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])] == [
        *marks, *letters, *inner, *merged
    ]  # fmt: skip
    assert made.tokenize("low new lone") == ["low", "new", "[UNK]"]
