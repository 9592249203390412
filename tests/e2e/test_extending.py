"""What docs/extending.md shows is run as it stands there: its files, its commands, its output."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.kernel.registry import find, load_file

from .conftest import SENTIMENT, Deepgen, at_once, call

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE))
LAST = ("--tracking", "false")
LEARN = (*LAST, "--do_predict", "false", "--num_train_epochs", "1")


def command(begin: str) -> list[str]:
    """The words of a command of the page, after `deepgen`."""
    (line,) = re.findall(rf"^deepgen ({re.escape(begin)}.*)$", PAGE, flags=re.MULTILINE)
    return str(line).partition("  #")[0].split()


@pytest.fixture
def shown(place: Path) -> Path:
    """The files of the page, and a small scene `sentiment` in the place of the one that is shipped."""
    assert set(FILES) == {"mean_pooling.py", "bag_of_words.py", "bag_of_words.yaml", "r_drop.py"}
    for name, text in FILES.items():
        (place / name).write_text(text)
    (place / "scenes").mkdir()
    scene = SENTIMENT.replace("scratch:", "scratch:../").replace("_dir: ", "_dir: ../")
    (place / "scenes" / "sentiment.yaml").write_text(scene)
    return place


def scores(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "metrics.json").read_text()))


def test_a_class_for_an_architecture(shown: Path, deepgen: Deepgen) -> None:
    line = re.search(r"`(the model class of mean_pooling.py:\d+ .*)`", PAGE)
    assert line is not None
    code = (
        "import sys\nfrom deepgen.controller.cli import main\n"
        "assert main(['check', *sys.argv[1:]]) == 0\nassert not {'torch', 'transformers'} & set(sys.modules)"
    )
    words = command("run sentiment --plugin mean_pooling.py")
    checked = call([sys.executable, "-c", code, *words[1:]], shown)
    assert f"note: {line.group(1)}\n" in checked.stdout
    done = deepgen(*words, *LEARN)
    assert line.group(1) in " ".join(done.stderr.split())
    model = shown / "runs" / "sentiment" / "model"
    assert json.loads((model / "config.json").read_text())["architectures"] == ["MeanPooling"]
    assert set(scores(model.parent)) == {"eval_loss", "eval_auc", "eval_acc"}


def test_an_architecture_of_ones_own(shown: Path, deepgen: Deepgen) -> None:
    deepgen(*command("run sentiment --plugin bag_of_words.py"), *LAST)
    folder = shown / "runs" / "sentiment"
    config = json.loads((folder / "model" / "config.json").read_text())
    assert (config["architectures"], config["model_type"]) == (["BagOfWords"], "bag_of_words")
    for name in ("bag_of_words.py", "bag_of_words.yaml"):
        (shown / name).unlink()
    rows = (shown / "eval.tsv").read_text().splitlines()
    (shown / "new.tsv").write_text("".join(row.split("\t")[0] + "\n" for row in rows))
    deepgen(*command("predict --from runs/sentiment"), "--result_file", "again.txt")
    assert (shown / "again.txt").read_text() == (folder / "predict.txt").read_text()
    (folder / "model" / "plugins" / "bag_of_words.py").unlink()
    done = deepgen(*command("predict --from runs/sentiment"), exits=2)
    assert "no such file" in done.stderr


def test_a_trainer(shown: Path, deepgen: Deepgen) -> None:
    """Without dropout both passes are the same, and so are their loss and that of the common trainer, on any ranks."""
    at_once(
        deepgen,
        [*command("run sentiment --plugin r_drop.py"), *LEARN, "--output_dir", "drop", "--zero_stage", "2"],
        ["run", "sentiment", *LEARN, "--per_device_train_batch_size", "16", "--output_dir", "plain"],
    )
    assert scores(shown / "drop")["eval_loss"] == pytest.approx(scores(shown / "plain")["eval_loss"], abs=1e-5)
    words = command("run sentiment --plugin r_drop.py")
    done = deepgen(*words, "--problem_type", "regression", "--eval_metrics", "mse", exits=2)
    assert "trainer = 'r_drop' learns one class of several" in done.stderr


def test_the_loss_of_the_trainer_is_that_of_the_paper(tmp_path: Path) -> None:
    (tmp_path / "r_drop.py").write_text(FILES["r_drop.py"])
    load_file(str(tmp_path / "r_drop.py"))
    plugin: Any = find("trainer", "r_drop").plugin
    trainer = plugin(r_drop_alpha=3.0)
    model: Any = find("model", "seq2label").plugin()
    model._problem, model._size, model._accepts = "single_label_classification", 3, {"x"}
    answers = torch.randn(4, 3, requires_grad=True)  # of the two rows with one dropout, then with the other

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            assert torch.equal(x, torch.tensor([1.0, 2.0, 1.0, 2.0]))
            return type("Output", (), {"logits": answers})

    class Run:
        pass

    run: Any = Run()
    run.model = model
    labels = torch.tensor([0, 2])
    made = trainer.loss(run, Module(), {"x": torch.tensor([1.0, 2.0]), "labels": labels})
    p, q = answers.softmax(1).chunk(2)
    nll = sum(-torch.log(side[row, label]) for side in (p, q) for row, label in enumerate(labels))
    divergence = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
    assert made.count == 2
    assert made.total.item() == pytest.approx((nll + 3 * divergence).item() / 2, rel=1e-5)
    made.total.backward()
    assert answers.grad is not None
    assert answers.grad.abs().sum() > 0


def test_a_class_of_another_library(tmp_path: Path) -> None:
    (code,) = re.findall(r'```python\n("""Looks at what .*?)```', PAGE, flags=re.DOTALL)
    (tmp_path / "watched.py").write_text(code)
    done = subprocess.run([sys.executable, "watched.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    place = "transformers.models.bert.modeling_bert.BertSelfAttention"
    assert lines[0] == f"{place} is replaced by __main__.Watched"
    assert f"  changed: {place}" in lines
    assert "  kept: __main__.BertSelfAttention: the new one is written there" in lines
    assert lines[-1] == "2 Watched"


def test_the_commands_of_new(shown: Path, deepgen: Deepgen) -> None:
    for begin in ("new metric", "new scene"):
        deepgen(*command(begin))
    words = command("run mine.yaml")
    deepgen("check", *words[1:])
