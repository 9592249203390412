"""The outputter of sample/plugins/python: its own environment and tests, and what it writes of a run."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample" / "plugins" / "python"
SOURCE = ("kernel", "plugins", "controller", "proto", "setup.py", "pyproject.toml", "README.md")
NO_NETWORK = ("Failed to establish a new connection", "Could not find a version", "ConnectTimeout", "ReadTimeout")
DEEPGEN = (sys.executable, "-m", "deepgen.controller.cli")
ENCODER = """
model_type: bert
hidden_size: 16
num_hidden_layers: 1
num_attention_heads: 1
intermediate_size: 16
max_position_embeddings: 32
tokenizer: {model: word_level, vocab_size: 200}
"""
SCENE = """# A tiny classifier.
task: seq2label
model: scratch:encoder.yaml
train_dir: rows.tsv
predict_dir: rows.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
predict_model_header: cls_tokenize:text:tokens
result_header: text,label
per_device_eval_batch_size: 8
max_steps: 2
bf16: false
tracking: false
plugin: exec:'my outputter/my_outputter'
output_type: xlsx
"""
READ = """
import json, sys, openpyxl
rows = openpyxl.load_workbook(sys.argv[1]).active.iter_rows(values_only=True)
json.dump([list(row) for row in rows], sys.stdout)
"""


def done(command: Sequence[str | Path], folder: Path, exits: int = 0) -> str:
    """What a command that ends as it should has printed."""
    there = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), "PIP_NO_COMPILE": "1"}
    ran = subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True, check=False, timeout=300)
    said = ran.stdout + ran.stderr
    if "make_env.sh" in str(command[0]) and ran.returncode and any(word in said for word in NO_NETWORK):
        pytest.skip(f"pip cannot reach its index: {said.splitlines()[-1]}")
    assert ran.returncode == exits, said
    return ran.stdout


def wheel(folder: Path) -> Path:
    """This checkout as a wheel, built aside, as a build writes into the tree that other tests read."""
    (folder / "source").mkdir()
    for name in SOURCE:
        copy: Any = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / "source" / name)
    tools = all(map(importlib.util.find_spec, ("setuptools", "grpc_tools", "mypy_protobuf")))
    isolated = ["--no-build-isolation"] if tools else []
    done([sys.executable, "-m", "pip", "wheel", "--no-deps", *isolated, "--wheel-dir", ".", "./source"], folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scene and, outside the tree, the sample with its environment."""
    folder = tmp_path_factory.mktemp("python")
    sample = folder / "my outputter"
    shutil.copytree(SAMPLE, sample, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    done([sample / "make_env.sh", wheel(folder)], folder)
    (folder / "encoder.yaml").write_text(ENCODER)
    (folder / "scene.yaml").write_text(SCENE)
    with (ROOT / "sample" / "sentiment" / "train.tsv").open(encoding="utf-8") as file:
        rows = [next(file) for _ in range(50)]
    (folder / "rows.tsv").write_text("=1+1\t0\n" + "".join(rows), encoding="utf-8")
    return folder


def sheet(place: Path, file: Path) -> list[list[Any]]:
    """The cells of a sheet, as another library reads them."""
    cells: list[list[Any]] = json.loads(done([place / "my outputter/.venv/bin/python", "-c", READ, file], place))
    return cells


def test_its_own_tests_pass_without_torch(place: Path) -> None:
    python = place / "my outputter" / ".venv" / "bin" / "python"
    assert " passed" in done([python, "-m", "pytest", "-p", "no:cacheprovider"], place / "my outputter")
    light = (
        "import sys, deepgen.controller.plugin_server.server, deepgen.controller.conformance.suite; print(*sys.modules)"
    )
    for loaded in (light, "import importlib.metadata as of; print(*(one.name for one in of.distributions()))"):
        words = set(done([python, "-c", loaded], place).split())
        assert {"grpc", "grpcio"} & words
        assert not {"torch", "transformers", "deepspeed", "datasets", "mlflow"} & words


def test_it_does_what_the_protocol_says(place: Path) -> None:
    program = shlex.join(["./my outputter/my_outputter"])
    said = done([*DEEPGEN, "plugin", "check", f"exec:{program}", "--quick"], place)
    assert "outputter xlsx, over the wire" in said


def test_a_run_writes_each_row_once_and_in_order(place: Path) -> None:
    done([*DEEPGEN, "run", "scene.yaml", "--num_ranks", "1", "--output_dir", "first"], place)
    (head, *rows) = sheet(place, place / "first" / "predict.xlsx")
    assert head == ["text", "label", "class", "score LABEL_0", "score LABEL_1"]
    shutil.move(place / "first", place / "moved")  # the model folder still finds the program
    plain = ["--output_type", "score", "--result_file", "plain.txt", "--num_ranks", "1"]
    done([*DEEPGEN, "predict", "--from", "moved/model", "--predict_dir", "rows.tsv", *plain], place)
    lines = [line.split("\t") for line in (place / "plain.txt").read_text(encoding="utf-8").splitlines()]
    assert [row[:2] for row in rows] == [line[:2] for line in lines]
    assert [row[0] for row in rows] == [row.split("\t")[0] for row in (place / "rows.tsv").read_text().splitlines()]
    scores = np.array([row[3:] for row in rows], np.float32)
    assert np.array_equal(scores, np.array([line[2].split(",") for line in lines], np.float32))
    assert [row[2] for row in rows] == [f"LABEL_{best}" for best in scores.argmax(1)]


def test_without_its_environment_it_says_how_to_make_it(place: Path) -> None:
    (place / "bare").mkdir()
    shutil.copy(SAMPLE / "my_outputter", place / "bare")
    command = [*DEEPGEN, "plugins", "--plugin", "exec:bare/my_outputter"]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=60)
    words = f"has no environment yet; make it with {place}/bare/make_env.sh"
    assert (ran.returncode, ran.stderr) == (2, f"deepgen: --plugin exec:bare/my_outputter: {words}\n")
