"""A plugin that raises, or ends the program, while it says what it is, is named in one line, wherever it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from broken_scenes import CLASSIFIER, FILES

from deepgen.controller.cli import main

PLUGIN = '''"""Plugins that break somewhere."""
from dataclasses import dataclass

from deepgen.kernel.contracts import Field, Metric, Outputter, Processor
from deepgen.kernel.registry import metric, outputter, processor


def fail():
    {fault}


@processor("length_{number}")
@dataclass
class Length(Processor):
    """Tokens of one number."""

    def __post_init__(self):
        {made}

    def fields(self):
        {fields}
        return (Field("input_ids", "int64", "ragged"),)

    def process(self, columns):
        return {{}}

    def check(self, scene, splits):
        {check}
        return ()


@metric("hits_{number}")
@dataclass
class Hits(Metric):
    """Nothing."""

    fits = frozenset({{"single_label_classification"}})

    def keys(self):
        {keys}
        return ("hits",)

    def update(self, predictions):
        return {{}}

    def compute(self, state, class_names=()):
        return {{"hits": 1.0}}


@outputter("words_{number}")
@dataclass
class Words(Outputter):
    """Nothing."""

    fits = frozenset({{"single_label_classification"}})

    def columns(self, problem, result_columns):
        {columns}
        return ("word",)

    def format(self, predictions):
        return []
'''
RAISES = 'raise ValueError("two\\nlines")'


def broken(folder: Path, number: int, place: str, fault: str = RAISES) -> Path:
    """A file with three plugins, of which one breaks at a place, and a scene that uses them."""
    places = {name: "fail()" if name == place else "pass" for name in ("made", "fields", "check", "keys", "columns")}
    file = folder / f"broken_{number}.py"
    file.write_text(PLUGIN.format(number=number, fault=fault, **places))
    for name in ("train.tsv", "eval.tsv"):
        (folder / name).write_bytes(FILES[name])
    settings = {
        **CLASSIFIER,
        "predict_dir": "eval.tsv",
        "train_model_header": f"length_{number}:text:input_ids,convert2int:label:labels",
        "eval_metrics": f"hits_{number}",
        "output_type": f"words_{number}",
        "plugin": f"[{file}]",
    }
    (folder / "scene.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    return file


@pytest.mark.parametrize(
    ("number", "place", "title", "cannot"),
    [
        (1, "fields", "processor 'length_1'", "say what it is"),
        (2, "keys", "metric 'hits_2'", "say what it is"),
        (3, "columns", "outputter 'words_3'", "say what it is"),
        (4, "check", "processor 'length_4'", "check the scene"),
    ],
)
def test_one_that_raises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    place: str,
    title: str,
    cannot: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = broken(tmp_path, number, place)
    said = f"deepgen: {title} of {file} cannot {cannot}: ValueError: two lines\n"
    for command in ("check", "run"):
        assert main([command, "scene.yaml"]) == 2
        assert capsys.readouterr().err == said
    if place != "check":
        for words in (["plugins", "--plugin", str(file)], ["plugin", "check", str(file)]):
            assert main(words) == 2
            assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("number", "place", "words"),
    [
        (11, "fields", "processor 'length_11' of {file} cannot say what it is: SystemExit: 0"),
        (12, "made", "processor length_12 cannot be made: SystemExit: 0"),
    ],
)
def test_one_that_ends_the_program(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    place: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = broken(tmp_path, number, place, "raise SystemExit(0)")
    for command in ("check", "run"):
        assert main([command, "scene.yaml"]) == 2
        assert capsys.readouterr().err == f"deepgen: {words.format(file=file)}\n"


def test_one_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    served = f"exec:{sys.executable} -m deepgen.controller.cli plugin serve {broken(tmp_path, 21, 'check')}"
    scene = Path("scene.yaml")
    scene.write_text("".join(line for line in scene.read_text().splitlines(True) if not line.startswith("plugin")))
    assert main(["check", "scene.yaml", "--plugin", served]) == 2
    said = f"deepgen: processor 'length_21' of {served} cannot check the scene: ValueError: two lines\n"
    assert capsys.readouterr().err == said
