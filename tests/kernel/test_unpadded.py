"""Encoders without padding give what they give with it, for every architecture that is said to do so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from finished_models import ROWS, folder_of, write_rows

from deepgen.kernel import unpadded
from deepgen.kernel.realtime import Predictor
from deepgen.kernel.settings import load
from deepgen.kernel.unpadded import LAYERS, Unpadded, groups, rounded

LENGTHS = [3, 17, 9, 1, 9, 30, 2, 30]


def made(name: str, **more: Any) -> Any:
    """A small model with random weights."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    if name == "DistilBertModel":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    if name == "ElectraModel":
        sizes["embedding_size"] = 16
    config = getattr(transformers, f"{name.removesuffix('Model')}Config")(
        vocab_size=60, pad_token_id=1, **sizes, **more
    )
    torch.manual_seed(1)
    model = getattr(transformers, name)(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def texts(side: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask."""
    draw = np.random.default_rng(2)
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    if side == "left":
        mask = mask[:, ::-1].copy()
    ids = np.where(mask, draw.integers(2, 60, mask.shape), 1)
    return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens that attention without padding sees, call by call."""
    seen = list[int]()

    def counted(module: Any, query: torch.Tensor, *args: Any, **more: Any) -> Any:
        seen.append(query.shape[2])
        return unpadded.attention(module, query, *args, **more)

    known: Any = transformers.AttentionInterface
    monkeypatch.setitem(known._global_mapping, unpadded.ATTENTION, counted)
    return seen


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", LAYERS)
def test_states_are_the_same(name: str, implementation: str, calls: list[int]) -> None:
    model = made(name, attn_implementation=implementation)
    ids, mask = texts()
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        found = Unpadded(model)
        assert found
        assert not calls
        with found.layers():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        assert calls == [rounded(sum(LENGTHS))] * 2
        again = model(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(states[mask == 1], expected[mask == 1], rtol=1e-4, atol=1e-5)
    padding = states[mask == 0]
    assert torch.equal(padding, padding[:1].expand_as(padding)), "the layers gave zeros there"
    assert torch.equal(again, expected)
    assert len(calls) == 2, "outside, nothing has changed"
    assert model.config._attn_implementation == implementation


def test_padding_on_the_left_and_a_classifier() -> None:
    torch.manual_seed(1)
    model = transformers.BertForSequenceClassification(made("BertModel").config).eval()
    for side in ("left", "right"):
        ids, mask = texts(side)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            expected = model.bert(input_ids=ids, attention_mask=mask, position_ids=places).last_hidden_state
            logits = model(input_ids=ids, attention_mask=mask).logits
            with Unpadded(model).layers():
                states = model.bert(input_ids=ids, attention_mask=mask, position_ids=places).last_hidden_state
                found = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(states[mask == 1], expected[mask == 1], rtol=1e-4, atol=1e-5)
        if side == "right":  # on the left, the classifier looks at padding
            torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_done_is_done_as_ever(calls: list[int]) -> None:
    model = made("BertModel", attn_implementation="eager")
    ids, mask = texts()
    full = torch.ones_like(mask)
    empty = mask.clone()
    empty[0] = 0
    square = (mask[:, None, :, None] * mask[:, None, None, :]).bool() | torch.eye(mask.shape[1]).bool()
    with torch.inference_mode(), Unpadded(model).layers():
        for given in (full, empty, square, None):
            model(input_ids=ids, attention_mask=given)
        for asked in ("output_hidden_states", "output_attentions"):
            answers = model(input_ids=ids, attention_mask=mask, **{asked: True})
            assert all(layer.shape[0] == len(LENGTHS) for layer in answers[asked.removeprefix("output_")])
            assert answers[asked.removeprefix("output_")]
            setattr(model.config, asked, True)
            model(input_ids=ids, attention_mask=mask)
            setattr(model.config, asked, False)
        kept: Any = transformers.DynamicCache(config=model.config)
        model(input_ids=ids, attention_mask=mask, past_key_values=kept)
        assert kept.layers[0].keys.shape[0] == len(LENGTHS)
        assert not calls
        with pytest.raises(IndexError):
            model(input_ids=ids + 60, attention_mask=mask)
        assert model.config._attn_implementation == "eager"


def test_other_models_are_left_alone() -> None:
    class Own(transformers.BertModel):  # type: ignore[misc]
        """May see its mask in another way."""

    bert = made("BertModel").config
    assert not Unpadded(Own(bert))
    assert not Unpadded(made("BertModel", is_decoder=True))
    assert not Unpadded(transformers.T5EncoderModel(transformers.T5Config(vocab_size=60, d_model=32, num_layers=1)))
    assert Unpadded(torch.nn.Sequential(Own(bert), transformers.BertModel(bert)))


@pytest.mark.parametrize(("name", "leaves_out"), [("score", True), ("formatter", True), ("generation", False)])
def test_a_finished_model_leaves_padding_out(
    name: str, leaves_out: bool, calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags are text, as what is generated, but come of an encoder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path)
    model = Predictor(load(str(folder_of(tmp_path, name)), []))
    _, passes = model.predictions([pa.array([text for text, _, _ in ROWS[:8]])])
    found = [row for made in passes for row in made.rows]
    assert len(found) == 8
    assert bool(calls) == leaves_out


def test_groups_hold_each_token_once() -> None:
    lengths = np.sort(np.array([*LENGTHS, 64, 63, 5]))[::-1]
    made = groups(lengths, torch.bfloat16)
    assert sum(group.rows for group in made) == len(lengths)
    assert [group.tokens.start for group in made[1:]] == [group.tokens.stop for group in made[:-1]]
    assert made[-1].tokens.stop == lengths.sum()
    for group in made:
        assert group.places[group.real].tolist() == list(range(len(group.real)))
    assert 1 < len(made) < len(lengths)


@pytest.mark.parametrize("tokens", [1, 16, 17, 511, 512, 513, 1000, 4097, 100_000])
def test_few_numbers_of_tokens_are_met(tokens: int) -> None:
    assert tokens <= rounded(tokens) <= tokens + max(15, tokens / 16)
    assert rounded(rounded(tokens)) == rounded(tokens)
    octave = {rounded(number) for number in range(tokens, 2 * tokens)} if tokens < 5000 else set()
    assert len(octave) <= 17
