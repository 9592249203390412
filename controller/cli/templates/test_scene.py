"""Scene `my_scene`: it passes its check and runs to its end."""

import json
import subprocess
import sys
from pathlib import Path

SCENE = Path(__file__).with_name("my_scene.yaml")


def deepgen(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "deepgen.controller.cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_passes_its_check(tmp_path: Path) -> None:
    assert "scores: eval_loss, eval_acc, eval_auc" in deepgen("check", str(SCENE), folder=tmp_path)


def test_it_runs(tmp_path: Path) -> None:
    deepgen("run", str(SCENE), "--max_steps", "4", "--tracking", "false", "--num_ranks", "1", folder=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert set(json.loads((folder / "metrics.json").read_text())) == {"eval_loss", "eval_acc", "eval_auc"}
    assert len((folder / "predict.txt").read_text().splitlines()) == 16
