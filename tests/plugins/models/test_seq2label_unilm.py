"""`seq2label_unilm`: a BERT answers as before, and relative positions and fused weights are those of the formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_folders import model_folders
from train_ranks import curves, train

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Batch, Field, Labels
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.lora import Adapter, LoraSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find
from deepgen.kernel.settings import load
from deepgen.plugins.models.seq2label_unilm import apart, buckets

BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CLASSES = Labels(Field("labels", "int64"), 3)
ROWS = [[101, 7, 8, 9, 11, 13, 102], [101, 7, 102], [101, 8, 9, 102]]
TABLE = "bert.rel_pos_bias.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A BERT, and a model that is none."""
    distil = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    return model_folders({"Bert": BERT, "DistilBert": distil}, 30522, tmp_path_factory)


def build(folder: Path, labels: Labels | None = CLASSES, **options: Any) -> tuple[Any, Any, Pretrained]:
    torch.manual_seed(0)
    model: Any = find("model", "seq2label_unilm").plugin(**options)
    pretrained = Pretrained(PretrainedSettings(model=str(folder)))
    return model, model.build(pretrained, labels).eval(), pretrained


def batch(rows: list[list[int]] = ROWS) -> Batch:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "token_type_ids": torch.zeros_like(ids)}


def save(model: Any, module: Any, pretrained: Pretrained, folder: Path) -> None:
    model.save(module, module.state_dict(), folder)
    pretrained.save_tokenizer(folder)


def spread(module: Any) -> None:
    """A table that is not zero, biases that are not, and scores that differ."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1 or name.endswith("bias"):
                parameter.normal_(0, 0.5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "options", [{}, {"fast_qkv": True}, {"rel_pos_type": 2}, {"rel_pos_type": 1, "fast_qkv": True}]
)
def test_a_bert_answers_as_in_transformers(
    folders: dict[str, Path], tmp_path: Path, attention: str, options: dict[str, Any]
) -> None:
    """A classifier of Transformers, with biases of its keys; a new table of relative positions holds zeros."""
    transformers = quiet_transformers()
    torch.manual_seed(1)
    theirs = transformers.BertForSequenceClassification.from_pretrained(folders["Bert"], num_labels=3).eval()
    spread(theirs)
    theirs.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=str(folders["Bert"]))).save_tokenizer(tmp_path)
    model: Any = find("model", "seq2label_unilm").plugin(**options)
    pretrained = Pretrained(PretrainedSettings(model=str(tmp_path), attn_implementation=attention))
    module = model.build(pretrained, None).eval()
    assert pretrained.new_parameters == ({TABLE} if "rel_pos_type" in options else set())
    found, wanted = model.predict(module, batch())["scores"], theirs(**batch()).logits
    if options:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(found, wanted) or attention == "eager"
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_buckets_are_those_of_t5() -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-300, 301)
    for bins, furthest in ((32, 128), (8, 20), (64, 256)):
        wanted = T5Attention._relative_position_bucket(distance, True, bins, furthest)
        assert torch.equal(buckets(distance, bins, furthest), wanted)


@pytest.mark.parametrize("kind", [1, 2])
def test_attention_is_biased_by_distance(folders: dict[str, Path], kind: int) -> None:
    """The first layer's attention, by hand, from the table and the scores without it."""
    _, module, _ = build(folders["Bert"], rel_pos_type=kind, rel_pos_bins=8, max_rel_pos=3)
    module.set_attn_implementation("eager")
    spread(module)
    table = module.bert.rel_pos_bias.weight
    assert table.shape == (2, 7 if kind == 1 else 8)
    ids = torch.tensor(ROWS[:1])
    with torch.no_grad():
        found = module(ids, output_attentions=True).attentions[0][0]
        states = module.bert.embeddings(ids)
        layer = module.bert.encoder.layer[0].attention.self
        query, key = (part(states)[0].view(7, 2, 8).transpose(0, 1) for part in (layer.query, layer.key))
        scores = query @ key.transpose(1, 2) / 8**0.5
        for q in range(7):
            for k in range(7):
                near = max(-3, min(3, k - q))
                # of 8 bins 4 are for keys behind the query; in each half two are for 0 and 1, and 2 for 2, by the log
                place = near + 3 if kind == 1 else min(abs(k - q), 2 if abs(k - q) == 2 else 3) + 4 * (k > q)
                scores[:, q, k] += table[:, place]
    torch.testing.assert_close(found, scores.softmax(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"rel_pos_type": 1}, {"rel_pos_type": 2, "fast_qkv": True}])
def test_padding_has_no_influence_and_the_folder_loads_again(
    folders: dict[str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    model, module, pretrained = build(folders["Bert"], **options)
    spread(module)
    found = model.predict(module, batch())["scores"]
    alone = torch.cat([model.predict(module, batch([row]))["scores"] for row in ROWS])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    save(model, module, pretrained, tmp_path)
    again, loaded, second = build(tmp_path, None, fast_qkv=not options.get("fast_qkv", False))
    assert not second.new_parameters
    torch.testing.assert_close(again.predict(loaded, batch())["scores"], found, rtol=1e-4, atol=1e-5)
    # it is a BERT's folder: every weight has its name there, and the table is one more
    theirs, said = quiet_transformers().BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not said["missing_keys"]
    assert {name for name in said["unexpected_keys"] if "classifier" not in name} == {TABLE}
    query = "encoder.layer.1.attention.self.query.weight"
    assert torch.equal(theirs.state_dict()[query], apart(module.state_dict())[f"bert.{query}"])
    assert json.loads((tmp_path / "config.json").read_text())["rel_pos_type"] == options["rel_pos_type"]


def test_the_loss_reaches_table_and_fused_weights(folders: dict[str, Path]) -> None:
    model, module, pretrained = build(folders["Bert"], rel_pos_type=2, fast_qkv=True)
    assert TABLE in pretrained.new_parameters
    made = model.loss(module, {**batch(), "labels": torch.tensor([0, 2, 1])})
    theirs = torch.nn.functional.cross_entropy(made.outputs["scores"], torch.tensor([0, 2, 1]), reduction="sum")
    assert (made.total.item(), made.count) == (pytest.approx(theirs.item()), 3)
    made.total.backward()
    assert not [name for name, value in module.named_parameters() if value.grad is None]
    assert module.bert.rel_pos_bias.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("targets", [("qkv",), ()])  # what peft names for BERT is not there
def test_lora_learns_beside_the_fused_matrix_and_the_table_whole(
    folders: dict[str, Path], tmp_path: Path, targets: tuple[str, ...]
) -> None:
    model, module, pretrained = build(folders["Bert"], rel_pos_type=2, fast_qkv=True)
    chosen = LoraSettings(use_peft=True, lora_target_modules=targets)
    adapter = Adapter.put_into(module, chosen, pretrained.new_parameters, "single_label_classification")
    assert adapter.heads == {TABLE, "classifier.weight", "classifier.bias"}
    spread(module)
    found = model.predict(module, batch())["scores"]
    model.save(module, adapter.merged(module, module.state_dict()), tmp_path)
    pretrained.save_tokenizer(tmp_path)
    again, loaded, _ = build(tmp_path, None)
    torch.testing.assert_close(again.predict(loaded, batch())["scores"], found, rtol=1e-4, atol=1e-4)


def test_checkpoints_that_do_not_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="seq2label_unilm needs the weights of a BERT, and 'distilbert' is none"):
        build(folders["DistilBert"])
    with pytest.raises(SceneError, match="rel_pos_bins = 7 has to be even"):
        build(folders["Bert"], rel_pos_type=2, rel_pos_bins=7)
    with pytest.raises(SceneError, match="max_rel_pos = 8 greater than a quarter of it"):
        build(folders["Bert"], rel_pos_type=2, max_rel_pos=8)
    model, module, pretrained = build(folders["Bert"], rel_pos_type=2)
    save(model, module, pretrained, tmp_path)
    with pytest.raises(SceneError, match="rel_pos_type: the checkpoint has learned its biases with rel_pos_type = 2"):
        build(tmp_path, rel_pos_type=1)
    with pytest.raises(SceneError, match="rel_pos_bins and max_rel_pos: the checkpoint"):
        build(tmp_path, rel_pos_type=2, rel_pos_bins=64, max_rel_pos=100)
    _, module, _ = build(tmp_path, rel_pos_type=0)
    assert module.bert.rel_pos_bias is None
    (tmp_path / "rows.tsv").write_text("a text\t1\n")
    (tmp_path / "scene.yaml").write_text(SCENE)
    with pytest.raises(SceneError, match=r"fast_qkv: an adapter .* use lora_save: merged"):
        check(load(str(tmp_path / "scene.yaml"), ["--use_peft", "true", "--lora_save", "adapter"]))
    notes = check(load(str(tmp_path / "scene.yaml"), ["--rel_pos_type", "0", "--max_rel_pos", "9"]))
    assert notes == ["max_rel_pos has no effect, as rel_pos_type is 0"]


SCENE = """task: seq2label_unilm
model: .
train_dir: rows.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
fast_qkv: true
"""


def test_one_curve_on_one_rank_and_on_two(tmp_path: Path) -> None:
    for stage, (one, two) in curves(__file__, tmp_path).items():
        for whole, divided in zip(one, two, strict=True):
            assert divided == pytest.approx(whole, rel=1e-4, abs=1e-6), stage


if __name__ == "__main__":
    train("seq2label_unilm", CLASSES, {"rel_pos_type": 2, "fast_qkv": True})
