"""`deepgen new`: what it writes passes its own test, ruff and a run, as it is; it overwrites nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.controller.cli.new import KINDS

ROOT = Path(__file__).parents[2]


def call(*command: str, folder: Path, **environment: str) -> str:
    there = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lint(folder: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if ruff.exists():
        for command in (["check"], ["format", "--check"]):
            call(str(ruff), *command, "--config", str(ROOT / "pyproject.toml"), ".", folder=folder)


def write_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for kind in KINDS:
        assert main(["new", kind, f"nice_{kind}"]) == 0


def test_in_a_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(tmp_path, monkeypatch)
    told = capsys.readouterr().out
    assert "wrote nice_metric.py\nwrote test_nice_metric.py\ntest it: pytest test_nice_metric.py\n" in told
    assert "use it:  deepgen run SCENE --plugin nice_metric.py --eval_metrics nice_metric\n" in told
    lint(tmp_path)
    header = "cls_tokenize:text:tokens,nice_processor:text:words,convert2int:label:labels"
    given = {
        "plugin": ",".join(f"nice_{kind}.py" for kind in KINDS if kind != "scene"),
        "task": "nice_model",
        "trainer": "nice_trainer",
        "eval_metrics": "nice_metric",
        "output_type": "nice_outputter",
        "train_model_header": header,
        "max_steps": "2",
        "tracking": "false",
    }
    tokens = [word for name, value in given.items() for word in (f"--{name}", value)]
    assert main(["check", "nice_scene.yaml", *tokens]) == 0, capsys.readouterr().err
    run = ("deepgen.controller.cli", "run", "nice_scene.yaml", *tokens)
    with ThreadPoolExecutor() as pool:  # the tests start a run too
        list(pool.map(lambda words: call(sys.executable, "-m", *words, folder=tmp_path), (run, ("pytest", "-q", "."))))
    first = (tmp_path / "runs" / "nice_scene" / "predict.txt").read_text().splitlines()[0].split("\t")
    assert len(first) == 4
    assert first[2] in "01"


def test_in_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "deepgen"
    shutil.copytree(ROOT / "plugins", tree / "plugins")
    for name, target in {"kernel": "kernel", "controller": "controller", "v1": "proto/deepgen/v1"}.items():
        (tree / name).symlink_to(ROOT / target)
    (tree / "__init__.py").touch()
    write_all(tree / "plugins", monkeypatch)
    told = capsys.readouterr().out
    assert f"in the tree of {tree}; --here writes into the working folder instead" in told
    assert "wrote metrics/nice_metric.py\n" in told
    for path in ("plugins/models/nice_model.py", "tests/plugins/models/test_nice_model.py", "scenes/nice_scene.yaml"):
        assert (tree / path).is_file()
    lint(tree / "tests")
    for kind in KINDS:
        if kind != "scene":
            text = (tree / "plugins" / f"{kind}s" / f"nice_{kind}.py").read_text()
            assert "from deepgen" not in text
            (tree / "lint").mkdir(exist_ok=True)
            (tree / "lint" / f"{kind}.py").write_text(text)
    lint(tree / "lint")
    tests = ["-m", "pytest", "-q", "--import-mode=importlib", "tests", "-k", "not runs"]
    done = call(sys.executable, *tests, folder=tree, PYTHONPATH=str(tmp_path))
    assert "10 passed" in done
    assert main(["new", "metric", "mine_alone", "--here"]) == 0
    assert (tree / "plugins" / "mine_alone.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["metric"], "deepgen new takes a kind and a name; `deepgen new --help` tells more"),
        (["metrik", "x"], "no kind is called 'metrik'; did you mean 'metric'?"),
        (["metric", "2nd"], "'2nd' is no name for a new metric; give small letters, digits and _"),
        (["metric", "class"], "'class' is no name for a new metric"),
        (
            ["metric", "a" * 41],
            "give small letters, digits and _, a letter first, at most 40 and no word of Python",
        ),
        (["metric", "acc"], f"metric 'acc' is there already: {ROOT / 'plugins' / 'metrics' / 'acc.py'}"),
        (["scene", "sentiment"], f"scene 'sentiment' is there already: {ROOT / 'scenes' / 'sentiment.yaml'}"),
        (["metric", "numpy"], "numpy.py in the working folder would hide the package or module 'numpy' of Python"),
        (["metric", "there"], "test_there.py is there already; nothing was written"),
    ],
)
def test_a_mistake_writes_nothing(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_there.py").write_text("mine")
    assert main(["new", *arguments]) == 2
    assert line in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"test_there.py": "mine"}


def test_a_class_is_not_called_like_what_its_file_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "metric", "predictions"]) == 0
    assert "class PredictionsMetric(Metric):" in (tmp_path / "predictions.py").read_text()
