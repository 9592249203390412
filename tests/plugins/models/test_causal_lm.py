"""`causal_lm`: the loss is that of the target alone, and a row's text depends on no other row and holds no source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import scratch_models
import torch

from deepgen.kernel.contracts import Batch, Field, Labels
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

SOURCES, TARGETS = ["c a t", "b o a t s o f", "d o"], ["K AE T", "B OW T", "D UW UW UW"]
LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "llama": LLAMA,
    "qwen2": LLAMA,
    "gpt_neox": {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"},
    "opt": {
        "hidden_size": 16,
        "word_embed_proj_dim": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
    },
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
}
TOKENS = Labels(Field("labels", "int64", "ragged", padding=-100), 1)


def scratch(folder: Path, kind: str, **config: Any) -> Pretrained:
    return scratch_models.scratch(folder, kind, {**ARCHITECTURES.get(kind, {}), **config}, SOURCES + TARGETS)


def task(**options: Any) -> Any:
    return find("model", "causal_lm").plugin(**options)


def build(pretrained: Pretrained, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = task(**options)
    module = model.build(pretrained, TOKENS).eval()
    if pretrained.is_new("all"):
        scratch_models.spread(module, 0.7)
    return model, module


def batch(pretrained: Pretrained, side: str = "right", rows: tuple[int, ...] = (0, 1, 2), target: bool = True) -> Batch:
    names = ("source", "target") if target else ("source",)
    made_of: Any = find("processor", "causal_tokenize").plugin
    processor = made_of(separator="<s>")
    processor.bind(names, "tokens", pretrained)
    columns = [pa.array([texts[row] for row in rows]) for texts in (SOURCES, TARGETS)][: len(names)]
    made = {name: values.to_pylist() for name, values in processor.process(columns).items()}
    made["attention_mask"] = [[1] * len(ids) for ids in made["input_ids"]]
    width = max(map(len, made["input_ids"]))
    given: Batch = {}
    for name, value in {"input_ids": pretrained.padding.pad_token, "attention_mask": 0, "labels": -100}.items():
        if name in made:
            fill = [[value] * (width - len(row)) for row in made[name]]
            padded = [
                row + extra if side == "right" else extra + row for row, extra in zip(made[name], fill, strict=True)
            ]
            given[name] = torch.tensor(padded)
    return given


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_loss_is_that_of_the_target_tokens(folder: Path, kind: str, side: str) -> None:
    """Against log-probabilities of one row after the other, unpadded, summed over target and end token by hand."""
    pretrained = scratch(folder, kind)
    model, module = build(pretrained)
    given = batch(pretrained, side)
    made = model.loss(module, given)
    expected, tokenizer = 0.0, pretrained.tokenizer
    with torch.no_grad():
        for source, target in zip(SOURCES, TARGETS, strict=True):
            front = tokenizer(f"{source} <s>", add_special_tokens=False)["input_ids"]
            learned = [*tokenizer(target, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            logits = module(input_ids=torch.tensor([front + learned])).logits[0].log_softmax(-1)
            expected -= sum(float(logits[len(front) - 1 + at, token]) for at, token in enumerate(learned))
    assert made.count == model.count(given) == 13
    assert made.total.item() == pytest.approx(expected, rel=1e-4)
    made.total.backward()


def test_loss_is_the_sum_of_the_own_loss(folder: Path) -> None:
    pretrained = scratch(folder, "gpt2")
    model, module = build(pretrained)
    given = batch(pretrained)
    with torch.no_grad():
        own = module(**given).loss
    made = model.loss(module, given)
    assert made.total.item() / made.count == pytest.approx(own.item(), rel=1e-5)


def test_label_smoothing_spreads_the_target(folder: Path) -> None:
    pretrained = scratch(folder, "gpt2")
    plain, module = build(pretrained)
    given = batch(pretrained)
    logits = module(**{name: given[name] for name in ("input_ids", "attention_mask")}).logits[:, :-1]
    even = -logits.log_softmax(-1).mean(-1)[given["labels"][:, 1:] != -100].sum()
    expected = 0.9 * plain.loss(module, given).total + 0.1 * even
    smooth, _ = build(pretrained, label_smoothing_factor=0.1)
    assert smooth.loss(module, given).total.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}])
@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_a_batch_generates_what_its_rows_generate_alone(folder: Path, kind: str, options: dict[str, Any]) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, max_new_tokens=8, **options)
    alone = [model.predict(module, batch(pretrained, rows=(row,), target=False))["texts"][0] for row in range(3)]
    for side in ("left", "right"):
        for target in (False, True):  # with the target in the batch, as in evaluation, it is not seen
            assert model.predict(module, batch(pretrained, side, target=target))["texts"] == alone
    assert len({text for row in alone for text in row}) > 1
    assert len(alone[0]) == options.get("num_return_sequences", 1)


def test_a_penalty_on_repeating_does_not_see_the_padding(folder: Path) -> None:
    pretrained = scratch(folder, "gpt2")
    pretrained.tokenizer.pad_token = pretrained.tokenizer.eos_token
    model, module = build(pretrained, max_new_tokens=8, repetition_penalty=3.0)
    alone = [model.predict(module, batch(pretrained, rows=(row,), target=False))["texts"][0] for row in range(3)]
    assert model.predict(module, batch(pretrained, target=False))["texts"] == alone


def test_the_text_does_not_hold_the_source_and_the_folder_loads_alone(folder: Path, tmp_path: Path) -> None:
    pretrained = scratch(folder, "llama")
    model, module = build(pretrained, max_new_tokens=6, num_beams=2)
    given = batch(pretrained, target=False)
    texts = model.predict(module, given)["texts"]
    module.save_pretrained(tmp_path)
    pretrained.save_tokenizer(tmp_path)
    transformers = quiet_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    for source, (text,) in zip(SOURCES, texts, strict=True):
        ids = tokenizer(f"{source} <s>", add_special_tokens=False, return_tensors="pt")["input_ids"]
        made = plain.generate(ids, attention_mask=torch.ones_like(ids))[0]
        assert len(made) <= ids.shape[1] + 6
        assert tokenizer.decode(made[ids.shape[1] :], skip_special_tokens=True) == text
    again, loaded = build(Pretrained(PretrainedSettings(model=str(tmp_path))))
    assert again.predict(loaded, given)["texts"] == texts


def test_generation_ends_where_targets_end(folder: Path) -> None:
    pretrained = scratch(folder, "gpt2")
    _, module = build(pretrained)
    settings = module.generation_config
    assert settings.eos_token_id == pretrained.tokenizer.eos_token_id
    assert (settings.max_new_tokens, settings.max_length) == (16, None)


def test_more_tokens_than_the_model_takes(folder: Path) -> None:
    pretrained = scratch(folder, "gpt2")
    with pytest.raises(SceneError, match=r"max_new_tokens = 32, but 'gpt2' takes 32 tokens"):
        build(pretrained, max_new_tokens=32)
    model, module = build(pretrained, max_new_tokens=26)
    with pytest.raises(SceneError, match=r"a source of 8 tokens are more than the model takes: 32 tokens"):
        model.predict(module, batch(pretrained, target=False))


def test_models_that_do_not_read_from_left_to_right(folder: Path) -> None:
    with pytest.raises(SceneError, match=r"'t5' has an encoder too: use seq2seq"):
        build(scratch(folder, "t5", d_model=16, d_kv=8, num_heads=2, d_ff=32, num_layers=1))
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with pytest.raises(SceneError, match=r"'bert' reads both ways"):
        build(scratch(folder, "bert", **small))
    build(scratch(folder, "bert", is_decoder=True, **small))


def test_labels_must_stand_beside_their_tokens() -> None:
    assert task().problem(TOKENS.field) == task().problem(None) == "text"
    for labels in (Field("labels", "int64"), Field("labels", "int64", "ragged", padding=-100, side="right")):
        with pytest.raises(SceneError, match="the columns of causal_tokenize"):
            task().problem(labels)
