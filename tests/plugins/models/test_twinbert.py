"""`twinbert`: losses and scores by closed formulas, the same on one rank and on two, over several architectures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import model_folders
from train_ranks import BERT, STEPS, one_and_two

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Batch, Field, Labels
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find
from deepgen.kernel.settings import load

INTS = Field("labels", "int64")
PAIRS = Labels(INTS, 2)
VOCABULARY = 30522
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "DistilBert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "GPT2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "T5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}
WAYS = ("in_batch", "two towers", "pair")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of several architectures with the packaged tokenizer."""
    return model_folders(ARCHITECTURES, VOCABULARY, tmp_path_factory)


def task(**options: Any) -> Any:
    return find("model", "twinbert").plugin(**options)


def build(folder: Path, labels: Labels | None = None, **options: Any) -> tuple[Any, Any]:
    model = task(**options)
    return model, model.build(Pretrained(PretrainedSettings(model=str(folder))), labels).eval()


def batch(labels: list[int] | None = None, side: str = "right") -> Batch:
    """Three pairs of unequal length, padded."""
    queries = [[101, 7, 8, 9, 102], [101, 7, 102], [101, 8, 9, 102]]
    documents = [[101, 5, 102], [101, 6, 5, 102], [101, 9, 102]]
    made: Batch = {} if labels is None else {"labels": torch.tensor(labels)}
    for name, rows in (("q", queries), ("d", documents)):
        width = max(map(len, rows))
        pads = [[0] * (width - len(row)) for row in rows]
        padded = [row + pad if side == "right" else pad + row for row, pad in zip(rows, pads, strict=True)]
        made[f"{name}_input_ids"] = torch.tensor(padded)
        made[f"{name}_attention_mask"] = (made[f"{name}_input_ids"] != 0).long()
    return made


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_the_pooled_states(folders: dict[str, Path], architecture: str, pooling: str) -> None:
    model, module = build(folders[architecture], pooling=pooling)
    with torch.no_grad():
        found = model.predict(module, batch())["vectors"]
        encoder = quiet_transformers().AutoModel.from_pretrained(folders[architecture]).eval()
        encoder = encoder.get_encoder() if architecture == "T5" else encoder
        for row, ids in enumerate([[101, 7, 8, 9, 102], [101, 7, 102], [101, 8, 9, 102]]):
            states = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
            wanted = states.mean(0) if pooling == "mean" else states[0]
            torch.testing.assert_close(found["q"][row], wanted / wanted.norm(), rtol=1e-4, atol=1e-5)
    assert found["d"].shape == (3, 16)


def test_padding_on_the_left_changes_nothing(folders: dict[str, Path]) -> None:
    for pooling in ("mean", "cls"):
        model, module = build(folders["T5"], pooling=pooling)  # its positions are relative
        right, left = (model.predict(module, batch(side=side))["vectors"]["q"] for side in ("right", "left"))
        torch.testing.assert_close(right, left, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("both", [True, False])
def test_in_batch_loss_is_the_cross_entropy_over_the_documents(folders: dict[str, Path], both: bool) -> None:
    model, module = build(folders["Bert"], embedding_size=4, temperature=0.1, both_directions=both)
    made = model.loss(module, batch())
    vectors = made.outputs["vectors"]
    logits = (vectors["q"] @ vectors["d"].T / 0.1).tolist()
    forth = sum(math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(logits))
    columns = list(zip(*logits, strict=True))
    back = sum(math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(columns))
    assert made.total.item() == pytest.approx((forth + back) / 2 if both else forth, rel=1e-4)
    assert made.count == model.count(batch()) == 3
    assert vectors["q"].shape == (3, 4)
    made.total.backward()
    assert float(module.projection.weight.grad.abs().sum()) > 0


def test_pair_loss_is_the_binary_cross_entropy_of_the_crossing(folders: dict[str, Path]) -> None:
    labels = [1, 0, 1]
    model, module = build(folders["Bert"], PAIRS, temperature=0.5)
    made = model.loss(module, batch(labels))
    with torch.no_grad():
        vectors = module({side: (batch()[f"{side}_input_ids"], batch()[f"{side}_attention_mask"]) for side in "qd"})
    cosine = (vectors["q"] * vectors["d"]).sum(1)
    torch.testing.assert_close(made.outputs["scores"][:, 0], cosine / 0.5)
    answers = model.predict(module, batch())
    assert list(answers) == ["scores", "q_embedding", "d_embedding"]
    torch.testing.assert_close(answers["d_embedding"], vectors["d"])
    chance = torch.sigmoid(cosine / 0.5).tolist()
    wanted = -sum(math.log(p if label else 1 - p) for p, label in zip(chance, labels, strict=True))
    assert made.total.item() == pytest.approx(wanted, rel=1e-5)


def test_residual_crossing_is_the_formula_of_the_paper(folders: dict[str, Path]) -> None:
    model, module = build(folders["Bert"], PAIRS, crossing="residual")
    with torch.no_grad():
        sides = {side: (batch()[f"{side}_input_ids"], batch()[f"{side}_attention_mask"]) for side in "qd"}
        vectors = module(sides)
        x = torch.maximum(vectors["q"], vectors["d"])
        y = torch.relu(x @ module.crossing.weight.T + module.crossing.bias) + x
        wanted = y @ module.score.weight.T + module.score.bias
    torch.testing.assert_close(model.predict(module, batch())["scores"], wanted)


def test_hidden_layers_follow_the_crossing(folders: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"crossing": "residual", "post_crossing_layers": 2, "post_crossing_size": 5}
    model, module = build(folders["Bert"], PAIRS, **options)
    with torch.no_grad():
        vectors = module({side: (batch()[f"{side}_input_ids"], batch()[f"{side}_attention_mask"]) for side in "qd"})
        x = torch.maximum(vectors["q"], vectors["d"])
        x = x + torch.relu(x @ module.crossing.weight.T + module.crossing.bias)
        for layer, shape in zip(module.post, ((5, 16), (5, 5)), strict=True):
            assert layer.weight.shape == shape
            x = torch.relu(x @ layer.weight.T + layer.bias)
        wanted = x @ module.score.weight.T + module.score.bias
    torch.testing.assert_close(model.predict(module, batch())["scores"], wanted)
    model.save(module, module.state_dict(), tmp_path)
    Pretrained(PretrainedSettings(model=str(folders["Bert"]))).save_tokenizer(tmp_path)
    again, loaded = build(tmp_path, loss_type="pair", **options)
    torch.testing.assert_close(again.predict(loaded, batch())["scores"], wanted)
    _, fresh = build(tmp_path, PAIRS, load_crossing=False, **options)
    assert not torch.equal(fresh.crossing.weight, module.crossing.weight)
    assert torch.equal(
        fresh.encoder.embeddings.word_embeddings.weight, module.encoder.embeddings.word_embeddings.weight
    )
    assert dict(again.decided())["load_crossing"], "a model folder is read whole"
    alone, without = build(tmp_path)
    assert list(alone.predict(without, batch())) == ["vectors"]
    for other in ({"post_crossing_layers": 1}, {"post_crossing_size": 6}, {"post_crossing_layers": 0}):
        with pytest.raises(SceneError, match="post_crossing_layers or post_crossing_size does not fit"):
            build(tmp_path, PAIRS, **{**options, **other})


def test_the_first_layers_and_the_tangent(folders: dict[str, Path]) -> None:
    model, module = build(folders["Bert"], num_hidden_layers=1, tanh_activation=True, embedding_size=4)
    with torch.no_grad():
        encoder = quiet_transformers().AutoModel.from_pretrained(folders["Bert"], num_hidden_layers=1).eval()
        pooled = encoder(input_ids=torch.tensor([[101, 7, 102]])).last_hidden_state[0].mean(0)
        vector = torch.tanh(pooled @ module.projection.weight.T + module.projection.bias)
    found = model.predict(module, batch())["vectors"]["q"][1]
    torch.testing.assert_close(found, vector / vector.norm(), rtol=1e-4, atol=1e-5)
    with pytest.raises(SceneError, match="num_hidden_layers = 3 is more than the model has: 2"):
        build(folders["Bert"], num_hidden_layers=3)


def test_towers_of_their_own_start_alike_and_part(folders: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"shared_tower": False, "embedding_size": 4}
    model, module = build(folders["Bert"], **options)
    ids = {"q_input_ids": batch()["q_input_ids"], "q_attention_mask": batch()["q_attention_mask"]}
    torch.nn.init.normal_(module.d_encoder.embeddings.word_embeddings.weight)
    model.save(module, module.state_dict(), tmp_path)
    Pretrained(PretrainedSettings(model=str(folders["Bert"]))).save_tokenizer(tmp_path)
    assert quiet_transformers().AutoModel.from_pretrained(tmp_path).config.model_type == "bert"
    for side, (alone, again) in {
        side: build(tmp_path, single_tower=side, loss_type="in_batch", **options) for side in ("q", "d")
    }.items():
        found = alone.predict(again, ids)["vectors"]
        assert list(found) == ["q"]
        wanted = module({side: (ids["q_input_ids"], ids["q_attention_mask"])})[side]
        torch.testing.assert_close(found["q"], wanted)
    with pytest.raises(SceneError, match=r"shared_tower is on, but .* holds a tower of its own"):
        build(tmp_path, embedding_size=4)
    with pytest.raises(SceneError, match="embedding_size does not fit"):
        build(tmp_path, shared_tower=False)


def test_new_weights_and_frozen_ones(folders: dict[str, Path]) -> None:
    model, pretrained = (
        task(embedding_size=4, freeze_encoder=True),
        Pretrained(PretrainedSettings(str(folders["Bert"]))),
    )
    module = model.build(pretrained, None)
    assert pretrained.new_parameters == {"projection.weight", "projection.bias"}
    assert {name for name, value in module.named_parameters() if value.requires_grad} == pretrained.new_parameters


def test_what_is_learned_follows_the_labels() -> None:
    assert task().problem(None) == "embedding"
    assert task().problem(INTS) == "single_label_classification"
    assert task(loss_type="in_batch").problem(INTS) == "embedding"
    assert task(loss_type="pair", single_tower="d").problem(None) == "embedding"
    with pytest.raises(SceneError, match="crossing = 'residual' scores one pair at a time"):
        task(crossing="residual").problem(None)
    with pytest.raises(SceneError, match="post_crossing_layers follow a residual crossing"):
        task(post_crossing_layers=1).problem(INTS)
    with pytest.raises(SceneError, match="labels that are 0 or 1"):
        task().problem(Field("labels", "float32"))


def test_labels_that_are_no_pair_labels(folders: dict[str, Path]) -> None:
    with pytest.raises(SceneError, match="labels that are 0 or 1, and they go up to 2"):
        build(folders["Bert"], Labels(INTS, 3))
    model, module = build(folders["Bert"], PAIRS)
    with pytest.raises(DataError, match="label 4 is neither 0 nor 1"):
        model.loss(module, batch([0, 4, 1]))


SCENE = """
task: twinbert
model: model
train_dir: rows.tsv
eval_dir: rows.tsv
predict_dir: rows.tsv
train_header: query,doc,label
train_model_header: twinbert_tokenize:query:doc:tokens
eval_metrics: recall_at_k
"""
LABELS = "twinbert_tokenize:query:doc:tokens,convert2int:label:labels"
ALONE = "twinbert_tokenize:doc:tokens"


def checked(folder: Path, **settings: str) -> list[str]:
    """The notes of a check of the scene with these settings."""
    (folder / "rows.tsv").write_text("a query\ta document\t1\n")
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "scene.yaml").write_text(SCENE)
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return check(load(str(folder / "scene.yaml"), flags))


def test_scenes_that_fit(tmp_path: Path) -> None:
    assert checked(tmp_path) == []
    assert checked(tmp_path, train_model_header=LABELS, eval_metrics="auc,acc", crossing="residual") == []
    only_predict = {"do_train": "false", "do_eval": "false", "predict_model_header": ALONE}
    checked(tmp_path, **only_predict, single_tower="d", loss_type="pair", embedding_format="npy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"single_tower": "d"}, "single_tower.* is for prediction, and train_dir is set"),
        ({"loss_type": "pair", "eval_metrics": "auc"}, "loss_type.* needs labels in train"),
        ({"crossing": "residual", "eval_metrics": "auc"}, "crossing.* scores one pair at a time"),
        ({"freeze_encoder": "true"}, "freeze_encoder leaves nothing to train"),
        ({"freeze": "true", "embed_dim": "4", "use_peft": "true"}, "freeze.* leaves no layer to use_peft"),
        ({"train_model_header": LABELS}, "recall_at_k scores embedding, but twinbert answers with single_label"),
        (
            {"train_model_header": LABELS, "eval_metrics": "auc", "predict_model_header": ALONE},
            "single_tower is not set, and the score of a pair needs two columns",
        ),
        ({"result_header": "query", "embedding_format": "npy"}, "embedding_format.* has no place for the columns"),
        ({"train_model_header": ALONE}, "twinbert needs 'd_input_ids' to train"),
    ],
)
def test_scenes_that_do_not_fit(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        checked(tmp_path, **settings)


def test_one_curve_on_one_rank_and_on_two(tmp_path: Path) -> None:
    (tmp_path / "bert.json").write_text(json.dumps(BERT))
    one, two = one_and_two(tmp_path, str(Path(__file__).with_name("twinbert_ranks.py")))
    assert len(one) == 4 * len(WAYS)
    for name, curve in one.items():
        alone = [loss for loss, _ in curve[:STEPS] if loss == 0]  # a step of one row has no negatives
        assert bool(alone) is not name.startswith("pair")
        assert len(alone) < STEPS
        for whole, divided in zip(curve, two[name], strict=True):
            np.testing.assert_allclose(divided, whole, rtol=1e-4, atol=1e-6, err_msg=name)
