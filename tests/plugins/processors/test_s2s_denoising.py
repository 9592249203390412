"""`s2s_denoising`: as much noise and as many spans as in T5, and source and target together are the text again."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.errors import SceneError
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

LENGTHS = [*range(45), 80, 200, 512]
TEXTS = [" ".join(f"w{(row + place) % 50}" for place in range(length)) for row, length in enumerate(LENGTHS)]


def of_t5(length: int, density: float = 0.15, mean: float = 3.0) -> tuple[int, int]:
    """Tokens of noise and spans, as `random_spans_noise_mask` of T5 and of Hugging Face's example has them."""
    noise = min(max(int(np.round(length * density)), 1), length - 1)
    return noise, max(int(np.round(noise / mean)), 1)


def pretrained(folder: Path, kind: str = "t5", model: str = "word_level", sentinels: int = 60) -> Pretrained:
    file = folder / f"{kind}-{model}-{sentinels}.yaml"
    block = f"{{model: {model}, extra_ids: {sentinels}, vocab_size: 400}}"
    file.write_text(f"model_type: {kind}\ntokenizer: {block}\n")
    return Pretrained(PretrainedSettings(model=f"scratch:{file}"), lambda: TEXTS)


def bound(given: Pretrained | None, **options: Any) -> Processor:
    processor = find("processor", "s2s_denoising").plugin(**options)
    assert isinstance(processor, Processor)
    processor.bind(("text",), "tokens", given)
    return processor


def drawn(processor: Processor, texts: list[str], seed: int = 1) -> tuple[list[list[int]], ...]:
    """Ids of the text, of the source and of the target, each without the special tokens around it."""
    rows = [np.array(row, np.int32) for row in processor.process([pa.array(texts)])["input_ids"].to_pylist()]
    made = processor.draw({"input_ids": rows}, np.arange(len(rows), dtype=np.uint64) * np.uint64(977 * seed))
    assert processor.pretrained is not None
    empty = processor.pretrained.tokenizer("")["input_ids"]
    front = len(empty) - 1
    parts = [rows, made["input_ids"], made["labels"]]
    for row in (row.tolist() for part in parts for row in part):
        assert [*row[:front], *row[-1:]] == empty
    return tuple([row.tolist()[front:-1] for row in part] for part in parts)


def spans_of(target: list[int], marks: list[int]) -> dict[int, list[int]]:
    """The tokens behind each sentinel."""
    found: dict[int, list[int]] = {}
    for token in target:
        if token in marks:
            assert token not in found
            found[token] = []
        else:
            found[list(found)[-1]].append(token)
    return found


@pytest.mark.parametrize(("kind", "model"), [("t5", "word_level"), ("t5", "unigram"), ("bart", "bpe")])
def test_noise_and_spans_are_those_of_t5_and_the_text_comes_back(folder: Path, kind: str, model: str) -> None:
    given = pretrained(folder, kind, model)
    marks = given.tokenizer.convert_tokens_to_ids([f"<extra_id_{number}>" for number in range(60)])
    for seed in (1, 2, 3):
        for text, source, target in zip(*drawn(bound(given), TEXTS, seed), strict=True):
            if len(text) < 2:
                assert (source, target) == (text, [])
                continue
            spans = spans_of(target, marks)
            noise = sum(map(len, spans.values()))
            assert (noise, len(spans)) == of_t5(len(text))
            assert list(spans) == marks[: len(spans)] == [token for token in source if token in marks]
            assert all(spans.values()), "no span is empty"
            assert [part for token in source for part in spans.get(token, [token])] == text
            touching = [one for one, after in pairwise(source) if {one, after} <= set(marks)]
            assert not touching


def test_all_layouts_are_equally_likely(folder: Path) -> None:
    """Three of seven tokens in two spans: 2 ways to divide the noise, and 10 ways to put two spans among four."""
    processor = bound(pretrained(folder), noise_density=0.43, mean_noise_span_length=1.5)
    text = " ".join(f"w{place}" for place in range(7))
    found = Counter(tuple(source) for source in drawn(processor, [text] * 6000)[1])
    assert len(found) == 20
    assert 220 < min(found.values()) <= max(found.values()) < 390


def test_what_it_draws_depends_on_the_key_alone(folder: Path) -> None:
    processor = bound(pretrained(folder))
    rows = [np.array(row, np.int32) for row in processor.process([pa.array(TEXTS)])["input_ids"].to_pylist()]
    keys = np.arange(len(rows), dtype=np.uint64)
    whole = processor.draw({"input_ids": rows}, keys)
    for at in range(0, len(rows), 5):
        alone = processor.draw({"input_ids": rows[at : at + 1]}, keys[at : at + 1])
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], whole[name][at])


def test_few_sentinels_make_long_spans(folder: Path) -> None:
    given = pretrained(folder, sentinels=2)
    _, sources, targets = drawn(bound(given, source_max_length=100), TEXTS[-1:])
    marks = given.tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
    assert len(spans_of(targets[0], marks)) == 2
    assert (len(sources[0]), len(targets[0])) == (99 - 15 + 2, 15 + 2)


def test_much_noise_still_fits(folder: Path) -> None:
    processor = bound(pretrained(folder), noise_density=0.9, mean_noise_span_length=1.0)
    for text, source, target in zip(*drawn(processor, TEXTS[2:45]), strict=True):
        assert max(len(source), len(target)) <= len(text)


def test_sentinels_of_special_tokens_and_none_at_all(folder: Path) -> None:
    file = folder / "plain.yaml"
    file.write_text("model_type: t5\ntokenizer: {model: word_level}\n")
    settings = PretrainedSettings(model=f"scratch:{file}", special_tokens=("<extra_id_0>", "<extra_id_1>"))
    given = Pretrained(settings, lambda: TEXTS)
    text, source, target = (part[0] for part in drawn(bound(given), ["w1 w2 w3 w4"]))
    assert sorted(source + target) == sorted(text + given.tokenizer.convert_tokens_to_ids(["<extra_id_0>"] * 2))
    bare = Pretrained(PretrainedSettings(model=f"scratch:{file}"), lambda: TEXTS)
    with pytest.raises(SceneError, match="s2s_denoising: the tokenizer has no sentinels; add them with special_tokens"):
        bound(bare).process([pa.array(["w1"])])


def test_fields_are_known_without_a_tokenizer() -> None:
    assert bound(None).fields() == (
        Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),
        Field("labels", "int64", "ragged", padding=-100, side="right"),
    )
