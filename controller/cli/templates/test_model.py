"""`my_model`: its loss is that of torch, and padding has no influence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.kernel.contracts import Field, Labels
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find, load_file

load_file(str(Path(__file__).with_name("my_model.py")))
SMALL = """
model_type: bert
hidden_size: 16
num_hidden_layers: 1
num_attention_heads: 2
intermediate_size: 32
tokenizer: {model: word_piece, vocab_size: 100}
"""
LABELS = Field("labels", "int64")


def built(folder: Path) -> tuple[Any, Any]:
    (folder / "small.yaml").write_text(SMALL)
    pretrained = Pretrained(PretrainedSettings(model=f"scratch:{folder}/small.yaml"), lambda: ["a good film"])
    model: Any = find("model", "my_model").plugin()
    torch.manual_seed(0)
    return model, model.build(pretrained, Labels(LABELS, 3)).eval()


def batch(*rows: list[int], labels: tuple[int, ...] = ()) -> dict[str, Any]:
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor(labels)}


def test_loss_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, module = built(tmp_path)
    both = batch([2, 5, 3], [2, 6, 7, 5, 3], labels=(1, 2))
    made = model.loss(module, both)
    scores = model.predict(module, both)["scores"]
    assert scores.shape == (2, 3)
    wanted = torch.nn.functional.cross_entropy(scores, both["labels"], reduction="sum")
    assert made.total.item() == pytest.approx(wanted.item())
    assert made.count == model.count(both) == 2
    alone = model.predict(module, batch([2, 5, 3]))["scores"]
    assert torch.allclose(alone, scores[:1], atol=1e-6)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, _ = built(tmp_path)
    with pytest.raises(DataError, match="label 3 is not one of the model's classes, 0 to 2"):
        model.count(batch([2, 3], labels=(3,)))
    with pytest.raises(SceneError, match="whole numbers"):
        model.problem(Field("labels", "float32"))
