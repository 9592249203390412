"""`unilm`: what a token sees, its loss, and a cache that changes no token; a model folder that is a BERT's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scratch_models
import torch
from scratch_models import TOKENS
from train_ranks import curves, train

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Batch, Field
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.lora import Adapter, LoraSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find
from deepgen.kernel.settings import load

SOURCES, TARGETS = ["c a t", "b o a t s o f", "d o"], ["K AE T", "B OW T", "D UW UW UW"]
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
WAYS: list[dict[str, Any]] = [{}, {"rel_pos_type": 1, "max_rel_pos": 4}, {"rel_pos_type": 2, "fast_qkv": True}]
SEARCHES: list[dict[str, Any]] = [
    {},
    {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 2.0},
    {"num_beams": 2, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
    {"repetition_penalty": 1.5},
]
KINDS = ["word_piece", "word_level"]
"""With [CLS] and [SEP] around each text, and with `</s>` behind it."""


def scratch(folder: Path, kind: str = "word_piece", architecture: str = "bert", attention: str = "sdpa") -> Pretrained:
    file = folder / f"{architecture}-{kind}.json"
    sizes = BERT if architecture == "bert" else {}
    file.write_text(json.dumps({"model_type": architecture, **sizes, "tokenizer": {"model": kind}}))
    chosen = PretrainedSettings(model=f"scratch:{file}", attn_implementation=attention)
    return Pretrained(chosen, lambda: SOURCES + TARGETS)


def build(pretrained: Pretrained, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model: Any = find("model", "unilm").plugin(**options)
    module = model.build(pretrained, TOKENS).eval()
    if pretrained.is_new("all"):
        scratch_models.spread(module, 0.7)
    return model, module


def padded(rows: list[list[int]], value: int, side: str = "right") -> torch.Tensor:
    width = max(map(len, rows))
    fill = [[value] * (width - len(row)) for row in rows]
    return torch.tensor([row + more if side == "right" else more + row for row, more in zip(rows, fill, strict=True)])


def batch(pretrained: Pretrained, rows: tuple[int, ...] = (0, 1, 2), side: str = "right") -> Batch:
    tokenizer = pretrained.tokenizer
    sources = [tokenizer(SOURCES[row])["input_ids"] for row in rows]
    labels = [tokenizer(TARGETS[row])["input_ids"] for row in rows]
    mask = padded([[1] * len(ids) for ids in sources], 0, side)
    return {
        "input_ids": padded(sources, tokenizer.pad_token_id, side),
        "attention_mask": mask,
        "labels": padded(labels, -100),
    }


def ends(tokenizer: Any) -> tuple[int, int]:
    names = ("cls_token_id", "sep_token_id") if tokenizer.bos_token_id is None else ("bos_token_id", "eos_token_id")
    start, end = (getattr(tokenizer, name) for name in names)
    return start, end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", WAYS)
def test_loss_is_that_of_tokens_one_after_the_other(folder: Path, kind: str, options: dict[str, Any]) -> None:
    """Each token's log-probability where the model is given no more than the tokens before it, unpadded."""
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, **options)
    start, end = ends(pretrained.tokenizer)
    expected, count = 0.0, 0
    with torch.no_grad():
        for source, target in zip(SOURCES, TARGETS, strict=True):
            ids = torch.tensor([pretrained.tokenizer(source)["input_ids"]])
            tokens = [start, *pretrained.tokenizer(target, add_special_tokens=False)["input_ids"], end]
            for at in range(1, len(tokens)):
                logits = module(ids, decoder_input_ids=torch.tensor([tokens[:at]])).logits[0, -1]
                expected -= float(logits.log_softmax(-1)[tokens[at]])
                count += 1
    given = batch(pretrained)
    for side in ("right", "left"):
        made = model.loss(module, batch(pretrained, side=side))
        assert made.count == model.count(given) == count
        assert made.total.item() == pytest.approx(expected, rel=1e-4)
    made.total.backward()
    assert not [name for name, value in module.named_parameters() if value.grad is None]


def test_what_a_token_sees_is_unilms_mask(folder: Path) -> None:
    """Against BERT itself with the mask of the paper, figure 1, and its segments and positions."""
    pretrained = scratch(folder)
    _, module = build(pretrained)
    source, target = torch.tensor([[2, 7, 8, 3]]), torch.tensor([[2, 9, 10]])
    sees = torch.tensor([[1] * 4 + [0] * 3] * 4 + [[1] * (5 + at) + [0] * (2 - at) for at in range(3)]).bool()
    plain = quiet_transformers().BertModel(module.config, add_pooling_layer=False).eval()
    plain.load_state_dict(module.bert.state_dict())
    with torch.no_grad():
        states = plain(
            torch.cat([source, target], dim=1),
            attention_mask=sees[None, None],
            token_type_ids=torch.tensor([[0] * 4 + [1] * 3]),
        ).last_hidden_state
        torch.testing.assert_close(module(source, decoder_input_ids=target).logits, module.cls(states[:, 4:]))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", WAYS)
def test_the_cache_changes_no_token(folder: Path, kind: str, options: dict[str, Any], attention: str) -> None:
    pretrained = scratch(folder, kind, attention=attention)
    _, module = build(pretrained, max_new_tokens=12, **options)
    lengths = set()
    for search in SEARCHES:
        given = {name: value for name, value in batch(pretrained).items() if name != "labels"}
        cached = module.generate(**given, **search)
        assert torch.equal(cached, module.generate(**given, **search, use_cache=False))
        lengths.add(cached.shape[1])
        # padding has no influence: a row generates alone, or padded on the other side, what it does in the batch
        each = search.get("num_return_sequences", 1)
        left = {name: value for name, value in batch(pretrained, side="left").items() if name != "labels"}
        assert torch.equal(cached, module.generate(**left, **search))
        for row in range(3):
            alone = batch(pretrained, (row,))
            made = module.generate(input_ids=alone["input_ids"], **search)
            texts = [
                pretrained.tokenizer.batch_decode(ids, skip_special_tokens=True)
                for ids in (cached[row * each : (row + 1) * each], made)
            ]
            assert texts[0] == texts[1]
    assert max(lengths) == 13, "the start token and 12 more"


def test_logits_of_the_cache_are_those_of_one_pass(folder: Path) -> None:
    """Step by step and with several tokens at once, each after padded sources."""
    from transformers import DynamicCache, EncoderDecoderCache

    pretrained = scratch(folder)
    _, module = build(pretrained, rel_pos_type=2)
    given = batch(pretrained)
    target = torch.tensor([[2, 6, 7, 8, 9]] * 3)
    with torch.no_grad():
        whole = module(given["input_ids"], given["attention_mask"], target).logits
        source = module.get_encoder()(given["input_ids"], given["attention_mask"])
        for steps in ([1] * 5, [2, 3], [1, 4]):
            cache, found = EncoderDecoderCache(DynamicCache(), DynamicCache()), []
            for new in torch.split(target, steps, dim=1):
                made = module(
                    attention_mask=given["attention_mask"],
                    decoder_input_ids=new,
                    encoder_outputs=source,
                    past_key_values=cache,
                    use_cache=True,
                )
                found.append(made.logits)
            torch.testing.assert_close(torch.cat(found, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_the_source_is_encoded_once_for_all_beams(folder: Path) -> None:
    pretrained = scratch(folder)
    _, module = build(pretrained, max_new_tokens=6, num_beams=3)
    seen: list[tuple[int, ...]] = []
    module.bert.encoder.layer[0].register_forward_pre_hook(lambda layer, given: seen.append(tuple(given[0].shape[:2])))
    given = batch(pretrained)
    module.generate(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    assert seen == [tuple(given["input_ids"].shape), *[(9, 1)] * (len(seen) - 1)]
    assert len(seen) > 3


@pytest.mark.parametrize("options", WAYS)
def test_the_folder_loads_again_and_is_that_of_a_bert(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    pretrained = scratch(folder)
    model, module = build(pretrained, max_new_tokens=8, num_beams=3, num_return_sequences=2, **options)
    given = batch(pretrained)
    texts = model.predict(module, given)["texts"]
    assert [len(row) for row in texts] == [2, 2, 2]
    model.save(module, module.state_dict(), tmp_path)
    pretrained.save_tokenizer(tmp_path)
    again, loaded = build(Pretrained(PretrainedSettings(model=str(tmp_path))))
    assert again.predict(loaded, given)["texts"] == texts
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "bert"
    assert not config.get("is_encoder_decoder")
    transformers = quiet_transformers()
    for name in ("BertModel", "BertForMaskedLM"):
        theirs, said = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
        assert not [key for key in said["missing_keys"] if "pooler" not in key]
    states = theirs.bert(given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    if not options:  # the source is read as by BERT
        mine = module.bert(given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
        torch.testing.assert_close(states, mine)


def test_lora_learns_beside_the_encoder(folder: Path, tmp_path: Path) -> None:
    fresh = scratch(folder)
    model, module = build(fresh)
    (tmp_path / "base").mkdir()
    model.save(module, module.state_dict(), tmp_path / "base")
    fresh.save_tokenizer(tmp_path / "base")
    pretrained = Pretrained(PretrainedSettings(model=str(tmp_path / "base")))
    model, module = build(pretrained)
    chosen = LoraSettings(use_peft=True, lora_save="adapter")
    adapter = Adapter.put_into(module, chosen, pretrained.new_parameters, "text")
    assert not adapter.heads
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.3)
    loss = model.loss(module, batch(pretrained)).total.item()
    (tmp_path / "adapter").mkdir()
    adapter.save(module, module.state_dict(), tmp_path / "adapter", str(tmp_path / "base"))
    (tmp_path / "merged").mkdir()
    model.save(module, adapter.merged(module, module.state_dict()), tmp_path / "merged")
    fresh.save_tokenizer(tmp_path / "merged")
    fresh.save_tokenizer(tmp_path / "adapter")
    for made in ("adapter", "merged"):
        again, loaded = build(Pretrained(PretrainedSettings(model=str(tmp_path / made))))
        assert again.loss(loaded, batch(pretrained)).total.item() == pytest.approx(loss, rel=1e-4)


def test_what_does_not_fit(folder: Path) -> None:
    with pytest.raises(SceneError, match="unilm needs the weights of a BERT, and 't5' is none"):
        build(scratch(folder, architecture="t5"))
    pretrained = scratch(folder)
    with pytest.raises(SceneError, match="max_new_tokens = 32, but the model takes 32 tokens"):
        build(pretrained, max_new_tokens=32)
    assert build(pretrained)[1].generation_config.max_new_tokens == 16
    model, module = build(pretrained, max_new_tokens=26)
    with pytest.raises(SceneError, match=r"have 35 tokens together, and the model takes 32; lower max_new_tokens or"):
        model.predict(module, batch(pretrained))
    long = {**batch(pretrained), "labels": torch.full((3, 25), 5)}
    with pytest.raises(SceneError, match=r"have 33 tokens together, .* lower source_max_length or target_max_length"):
        model.loss(module, long)
    model.loss(module, {**long, "labels": long["labels"][:, :24]})  # all of them in use
    assert model.problem(TOKENS.field) == model.problem(None) == "text"
    with pytest.raises(SceneError, match="unilm learns labels that are token ids; give the target as the second"):
        model.problem(Field("labels", "int64"))


def test_limits_that_are_not_set_are_noted(folder: Path) -> None:
    (folder / "rows.tsv").write_text("c a t\tK AE T\n")
    (folder / "scene.yaml").write_text(
        "task: unilm\nmodel: hub/name\ntrain_header: letters,phones\n"
        "train_model_header: s2s_tokenize:letters:phones:x\npredict_model_header: s2s_tokenize:letters:x\n"
    )
    scene, rows = str(folder / "scene.yaml"), str(folder / "rows.tsv")
    both, source = "source_max_length and target_max_length are not set", "source_max_length is not set"
    assert [note.partition(":")[0] for note in check(load(scene, ["--train_dir", rows]))] == [both]
    assert [note.partition(":")[0] for note in check(load(scene, ["--predict_dir", rows]))] == [source]
    assert not check(load(scene, ["--train_dir", rows, "--target_max_length", "9", "--source_max_length", "9"]))


def test_one_curve_on_one_rank_and_on_two(tmp_path: Path) -> None:
    for stage, (one, two) in curves(__file__, tmp_path).items():
        for whole, divided in zip(one, two, strict=True):
            assert divided == pytest.approx(whole, rel=1e-4, abs=1e-6), stage


if __name__ == "__main__":
    train("unilm", TOKENS, {"rel_pos_type": 2})
