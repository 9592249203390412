"""`mlm_tokenize`: shares of masks as in BERT, special tokens never hidden, and `masked` gives the text back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.errors import SceneError
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

TEXTS = [" ".join(f"w{(row * 7 + place) % 50}" for place in range(row % 40)) for row in range(400)]


def pretrained(folder: Path, kind: str) -> Pretrained:
    file = folder / f"{kind}.yaml"
    file.write_text(f"model_type: bert\ntokenizer: {{model: {kind}, vocab_size: 300}}\n")
    return Pretrained(PretrainedSettings(model=f"scratch:{file}"), lambda: TEXTS)


def bound(given: Pretrained | None, *inputs: str, **options: Any) -> Processor:
    processor = find("processor", "mlm_tokenize").plugin(**options)
    assert isinstance(processor, Processor)
    processor.bind(inputs, "tokens", given)
    return processor


def drawn(processor: Processor, *columns: list[str]) -> tuple[list[Any], list[Any], list[Any]]:
    """Ids as they are, as they are shown, and those that are hidden."""
    made = processor.process([pa.array(column) for column in columns])
    plain = [np.array(row, np.int32) for row in made["input_ids"].to_pylist()]
    out = processor.draw({"input_ids": plain}, np.arange(len(plain), dtype=np.uint64) * np.uint64(977))
    return plain, list(out["input_ids"]), list(out["masked"])


@pytest.mark.parametrize("kind", ["word_piece", "bpe"])
def test_shares_are_those_of_bert(folder: Path, kind: str) -> None:
    given = pretrained(folder, kind)
    plain, shown, hidden = (np.concatenate(part) for part in drawn(bound(given, "text"), TEXTS))
    special = np.isin(plain, given.tokenizer.all_special_ids)
    chosen = hidden != -100
    assert not (chosen & special).any()
    assert abs(chosen[~special].mean() - 0.15) < 0.01
    np.testing.assert_array_equal(np.where(chosen, hidden, shown), plain)  # all others are as they were
    masks = shown[chosen] == given.tokenizer.mask_token_id
    same = shown[chosen] == plain[chosen]
    assert abs(masks.mean() - 0.8) < 0.04
    assert abs((~masks & ~same).mean() - 0.1) < 0.03
    assert abs(same.mean() - 0.1) < 0.03


def test_another_share_and_pairs(folder: Path) -> None:
    given = pretrained(folder, "word_piece")
    first, second = TEXTS[20:60], TEXTS[100:140]
    processor = bound(given, "first", "second", mlm_prob=0.5)
    plain, _, hidden = drawn(processor, first, second)
    assert [row.tolist() for row in plain] == given.tokenizer(first, second)["input_ids"]
    assert "token_type_ids" in processor.process([pa.array(first), pa.array(second)])
    special = np.isin(np.concatenate(plain), given.tokenizer.all_special_ids)
    assert abs((np.concatenate(hidden) != -100)[~special].mean() - 0.5) < 0.05
    none = drawn(bound(given, "first", mlm_prob=0.0), first)
    assert all((row == -100).all() for row in none[2])


def test_texts_without_tokens(folder: Path) -> None:
    plain, shown, hidden = drawn(bound(pretrained(folder, "word_piece"), "text"), ["", "", ""])
    assert [row.tolist() for row in shown] == [row.tolist() for row in plain]
    assert all((row == -100).all() for row in hidden)


def test_fields_are_known_without_a_tokenizer() -> None:
    assert bound(None, "text").fields()[2:] == (Field("masked", "int64", "ragged", padding=-100),)


def test_a_tokenizer_without_a_mask(folder: Path) -> None:
    with pytest.raises(SceneError, match="mlm_tokenize: the tokenizer has no mask token"):
        bound(pretrained(folder, "word_level"), "text").process([pa.array(["a"])])
