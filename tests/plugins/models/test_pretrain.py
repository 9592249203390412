"""`pretrain`: the loss is the library's own for given masks, the same on one rank and on two; masks are filled.

`python test_pretrain.py FOLDER OUT`, with the launcher's variables set, is one rank of the test that starts ranks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_ranks import one_and_two

from deepgen.kernel.batches import BatchSettings
from deepgen.kernel.check import check
from deepgen.kernel.contracts import Batch, Field
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.errors import SceneError
from deepgen.kernel.evaluation import Evaluator
from deepgen.kernel.events import Silent
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find
from deepgen.kernel.scene import Scene
from deepgen.kernel.settings import load
from deepgen.kernel.stream import eval_batches, open_split, train_batches
from deepgen.kernel.training import Optimization

TEXTS = [" ".join("abcdefghij"[(row * place) % 10] for place in range(1, 4 + row % 9)) for row in range(27)]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "roberta": SMALL,
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "deberta-v2": SMALL,
    "modernbert": SMALL,
}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SCENES = {
    "pretrain": "task: pretrain\nmodel: scratch:bert.json\ntrain_model_header: mlm_tokenize:text:tokens\n",
    "denoise": "task: seq2seq\nmodel: scratch:t5.json\ntrain_model_header: s2s_denoising:text:tokens\n",
}
WAYS = ("pretrain 1 false", "pretrain 3 false", "pretrain 1 true", "denoise 1 false", "denoise 2 true")
"""Scene, ZeRO stage, and whether it streams."""
GLOBAL_BATCH, STEPS = 8, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Scratch files, a text file and scenes over them."""
    made = tmp_path_factory.mktemp("scratch")
    block: dict[str, Any] = {"model": "word_piece"}
    configs = {kind: {**config, "tokenizer": block} for kind, config in ARCHITECTURES.items()}
    configs["bert"].update(DROPOUT)
    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1, "dropout_rate": 0.0}
    configs["t5"] = {**sizes, "tokenizer": {"model": "word_level", "extra_ids": 5}}
    configs["word_level"] = {**SMALL, "tokenizer": {"model": "word_level"}}
    for kind, config in configs.items():
        (made / f"{kind}.json").write_text(json.dumps({"model_type": kind.replace("word_level", "bert"), **config}))
    (made / "texts.tsv").write_text("".join(f"{text}\t{row % 2}\n" for row, text in enumerate(TEXTS)))
    for name, lines in SCENES.items():
        rest = "train_dir: texts.tsv\neval_dir: texts.tsv\ntrain_header: text,label\ncache_dir: features\n"
        (made / f"{name}.yaml").write_text(f"# A scene of the test.\n{lines}{rest}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made))
        yield made


def scratch(folder: Path, kind: str = "bert") -> Pretrained:
    return Pretrained(PretrainedSettings(model=f"scratch:{folder / kind}.json"), lambda: TEXTS)


def build(pretrained: Pretrained) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model: Any = find("model", "pretrain").plugin()
    return model, model.build(pretrained, None).eval()


def batch(pretrained: Pretrained, texts: list[str], hidden: list[list[int]] | None = None) -> Batch:
    """Texts as they are, or with the tokens at some places hidden behind masks."""
    made: Batch = dict(pretrained.tokenizer(texts, padding=True, return_tensors="pt"))
    if hidden is not None:
        made["masked"] = torch.full_like(made["input_ids"], -100)
        for row, places in enumerate(hidden):
            for place in places:
                made["masked"][row, place] = made["input_ids"][row, place]
                made["input_ids"][row, place] = pretrained.tokenizer.mask_token_id
    return made


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_the_loss_is_the_librarys_own(folder: Path, kind: str) -> None:
    pretrained = scratch(folder, kind)
    model, module = build(pretrained)
    given = batch(pretrained, TEXTS[4:7], [[1, 3], [], [2, 5, 6]])
    made = model.loss(module, given)
    accepted = {name: value for name, value in given.items() if name in model._accepts}
    own = module(**accepted, labels=given["masked"]).loss
    assert made.count == model.count(given) == 5
    assert made.total.item() / 5 == pytest.approx(own.item(), rel=1e-5)
    assert made.outputs["masked_tokens"].tolist() == [2, 0, 3]
    assert float(made.outputs["masked_loss"].sum()) == pytest.approx(made.total.item(), rel=1e-5)
    made.total.backward()
    alone = [(TEXTS[4], [1, 3]), (TEXTS[6], [2, 5, 6])]
    rows = [model.loss(module, batch(pretrained, [text], [places])) for text, places in alone]
    assert sum(one.total.item() for one in rows) == pytest.approx(made.total.item(), rel=1e-4)


def test_a_batch_without_a_hidden_token(folder: Path) -> None:
    pretrained = scratch(folder)
    model, module = build(pretrained)
    made = model.loss(module, batch(pretrained, TEXTS[:2], [[], []]))
    assert (made.total.item(), made.count) == (0.0, 0)
    made.total.backward()


def test_masks_are_filled_as_the_librarys_pipeline_fills_them(folder: Path, tmp_path: Path) -> None:
    pretrained = scratch(folder)
    model, module = build(pretrained)
    texts = ["a b [MASK] d", "[MASK] c", "e f g h i j", ""]
    found = model.predict(module, batch(pretrained, texts))["texts"]
    assert found[2:] == [["e f g h i j"], [""]]
    module.save_pretrained(tmp_path)
    pretrained.save_tokenizer(tmp_path)
    fill: Any = quiet_transformers().pipeline("fill-mask", str(tmp_path), top_k=1)
    assert [text for (text,) in found[:2]] == [fill(text)[0]["sequence"] for text in texts[:2]]
    again, loaded = build(Pretrained(PretrainedSettings(model=str(tmp_path))))
    assert again.predict(loaded, batch(pretrained, texts))["texts"] == found


def test_labels_and_tokenizers_that_do_not_fit(folder: Path) -> None:
    model: Any = find("model", "pretrain").plugin()
    assert model.problem(None) == "masked_text"
    with pytest.raises(SceneError, match="pretrain learns the tokens that mlm_tokenize hides; leave the labels out"):
        model.problem(Field("labels", "int64"))
    with pytest.raises(SceneError, match="pretrain needs a tokenizer with a mask token"):
        build(scratch(folder, "word_level"))
    with pytest.raises(SceneError, match="pretrain needs an encoder; 't5' has a decoder too: use seq2seq"):
        build(scratch(folder, "t5"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_model_header", "cls_tokenize:text:t", "needs 'masked' to train.* add an item of mlm_tokenize, such"),
        ("eval_metrics", "bleu", "pretrain answers with masked_text here; metrics that fit: masked_acc, perplexity"),
        ("task", "seq2seq", "needs 'labels' to train.* of s2s_tokenize or s2s_denoising, such as s2s_tokenize"),
        ("mlm_prob", "1.5", "mlm_prob"),
    ],
)
def test_scenes_that_do_not_fit(folder: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        check(load(str(folder / "pretrain.yaml"), [f"--{name}", value]))


def test_cut_out_spans_have_no_text_to_compare_with(folder: Path) -> None:
    file = str(folder / "denoise.yaml")
    assert check(load(file, ["--eval_metrics", "eval_loss"])) == []
    with pytest.raises(SceneError, match=r"--eval_metrics: s2s_denoising has no true text .*; score by eval_loss"):
        check(load(file, ["--eval_metrics", "bleu"]))
    check(load(file, ["--eval_metrics", "bleu", "--eval_model_header", "s2s_tokenize:text:label:tokens"]))


def curve(engine: Engine, scene: Scene, stage: int) -> dict[str, Any]:
    """Loss and gradient norm of each step of an epoch and more, the weights, and scores of an evaluation."""
    torch.manual_seed(3)
    pretrained = Pretrained(scene.read(PretrainedSettings), lambda: TEXTS)
    module = scene.model.build(pretrained, None)
    engine.settings, engine.config = EngineSettings(zero_stage=stage, bf16=False), {}  # type: ignore[arg-type]
    per_device = GLOBAL_BATCH // engine.ranks
    engine.prepare(module, Optimization(learning_rate=1e-2), total_steps=9, per_device=per_device, accumulation=1)
    engine.module.train()
    place: Any = {"rank": engine.rank, "ranks": engine.ranks, "barrier": engine.barrier}
    made = {split: open_split(scene, split, pretrained, **place) for split in ("train", "eval")}
    settings = BatchSettings(per_device, 5)
    data = train_batches(made["train"], pretrained.padding, settings, 1, engine.ranks, engine.rank, 5)
    steps = []
    for micro_batches in [step for epoch in range(2) for step in data.epoch(epoch)][:STEPS]:
        result = engine.train_step(micro_batches, scene.model.loss, scene.model.count)
        steps.append([float(result.loss), float(result.grad_norm or 0)])
    state = engine.state_dict()
    weights = [float(value.double().abs().sum()) for name, value in state.items() if "key.bias" not in name]
    names = ("perplexity", "masked_acc") if scene.model.name == "pretrain" else ()
    metrics: Any = [find("metric", name).plugin() for name in names]
    evaluator = Evaluator(engine, scene.model, scene.model.problem(None), (), Silent())
    scores, again = (
        evaluator.evaluate(*eval_batches(made["eval"], pretrained.padding, settings, *place_of), metrics).scores
        for place_of in [(engine.ranks, engine.rank)] * 2
    )
    assert scores == again
    return {"steps": steps, "weights": weights, "scores": scores}


def test_one_curve_on_one_rank_and_on_two(folder: Path, tmp_path: Path) -> None:
    one, two = one_and_two(tmp_path, __file__, str(folder))
    assert list(one) == list(WAYS)
    for name, found in one.items():
        for part, whole in found.items():
            whole, divided = (list(of.values()) if part == "scores" else of for of in (whole, two[name][part]))
            np.testing.assert_allclose(divided, whole, rtol=1e-4, atol=1e-6, err_msg=f"{name}: {part}")
        assert len({loss for loss, _ in found["steps"]}) == STEPS


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    here = Engine.start(EngineSettings(bf16=False))
    curves = {}
    for way in WAYS:
        name, stage, streaming = way.split()
        curves[way] = curve(here, load(f"{name}.yaml", ["--datareader_streaming", streaming]), int(stage))
    if here.rank == 0:
        Path(sys.argv[2]).write_text(json.dumps(curves), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
