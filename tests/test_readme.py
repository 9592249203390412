"""What the README shows is there and works."""

import re
from pathlib import Path

import numpy as np
import pytest

from deepgen.controller.cli import main
from deepgen.kernel import registry
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.settings import load

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(language: str, holds: str) -> str:
    (block,) = (b for b in re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL) if holds in b)
    return str(block)


def test_the_metric_of_the_readme_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "within.py").write_text(_block("python", "@metric"))
    line = re.search(r"`deepgen run (tweets --plugin within.py [^`]*)`", README)
    assert line is not None
    assert main(["check", *line.group(1).split()]) == 0, capsys.readouterr().err
    assert "eval_within" in capsys.readouterr().out
    scene = load("tweets", line.group(1).split()[1:])
    metric = registry.find("metric", "within").plugin()
    assert scene.values["tolerance"].value == 1.0
    scored = Predictions(
        rows=np.arange(3),
        problem="regression",
        scores=np.array([[0.0], [1.0], [2.0]], np.float32),
        labels=np.array([0.1, 3.0, 2.4], np.float32),
    )
    assert metric.compute(metric.update(scored))["within"] == pytest.approx(2 / 3)  # type: ignore[attr-defined]


def test_the_scene_of_the_readme_is_part_of_the_shipped_one() -> None:
    shown = [line for line in _block("yaml", "task: seq2label").splitlines() if line]
    shipped = (ROOT / "scenes" / "sentiment.yaml").read_text(encoding="utf-8").splitlines()
    assert [line for line in shown if line not in shipped] == []


def test_what_the_tree_names_exists() -> None:
    tree = README.partition("## The tree")[2]
    named = set(re.findall(r"[a-z0-9_]+\.py\b", tree))
    there = {path.name for part in ("kernel", "controller") for path in (ROOT / part).glob("*.py")}
    assert named <= there
    for folder in re.findall(r"^([a-z]+)/", tree, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir()


def test_the_scripts_of_the_readme_are_there() -> None:
    for script in re.findall(r"^bash (\S+)", README, flags=re.MULTILINE):
        assert (ROOT / script).is_file()
