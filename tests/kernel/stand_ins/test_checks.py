"""What a plugin in another process says of a scene: its mistakes are errors; what it cannot look at there is a note."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.kernel.connections import end_all

PICKY = '''
"""A processor that looks around."""
from dataclasses import dataclass

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.errors import PluginError
from deepgen.kernel.registry import processor


@processor("picky_there")
@dataclass
class Picky(Processor):
    """Wants a package, or to see the metrics."""

    picky_looks: str = ""
    """What it looks at."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        return {self.output: pa.array([0] * len(columns[0]))}

    def check(self, scene, splits):
        if self.picky_looks == "package":
            raise PluginError("picky_looks needs the package lucky")
        return [metric.name for metric, _ in scene.metrics] if self.picky_looks == "metrics" else ()
'''
FAR = '''
"""A metric that only the run has."""
from dataclasses import dataclass

from deepgen.kernel.contracts import Metric
from deepgen.kernel.registry import metric


@metric("only_here")
@dataclass
class OnlyHere(Metric):
    """Always one."""

    fits = frozenset({"single_label_classification"})

    def keys(self):
        return ("only_here",)

    def update(self, predictions):
        return {"labels": predictions.labels}

    def compute(self, state, class_names=()):
        return {"only_here": 1.0}
'''


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "picky.py").write_text(PICKY)
    (tmp_path / "far.py").write_text(FAR)
    (tmp_path / "rows.tsv").write_text("good\t1\nbad\t0\n")
    serve = shlex.join([sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve", "picky.py"])
    (tmp_path / "scene.yaml").write_text(
        f"task: seq2label\nmodel: bert-base-uncased\nplugin: ['exec:{serve}', far.py]\n"
        "train_dir: rows.tsv\neval_dir: rows.tsv\ntrain_header: text,label\n"
        "train_model_header: cls_tokenize:text:tokens,picky_there:label:labels\neval_metrics: only_here\n"
    )
    yield str(tmp_path / "scene.yaml")
    end_all()


def test_mistakes_are_errors_and_what_is_elsewhere_is_a_note(scene: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", scene]) == 0
    assert "note:" not in capsys.readouterr().out
    assert main(["check", scene, "--picky_looks", "package"]) == 2
    assert capsys.readouterr().err == "deepgen: picky_looks needs the package lucky\n"
    assert main(["check", scene, "--picky_looks", "metrics"]) == 0
    note = "note: processor 'picky_there' could not check the scene where it runs, without metric 'only_here'\n"
    assert note in capsys.readouterr().out
