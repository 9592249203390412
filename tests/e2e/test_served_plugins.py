"""Jobs of a controller whose plugin is a program: it is one of the folder for plugins, and ends with the job."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_servers import is_alive

from deepgen.controller.cli import main

from .conftest import DEEPGEN, Deepgen
from .test_served import controller, wait

PLUGIN = '''
"""Writes down in which process it runs, and takes as long as a file says."""
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor

HERE = Path(__file__).parent


@processor("slow_length")
@dataclass
class SlowLength(Processor):
    """The length of a text."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        (HERE / "pids").open("a").write(f"{os.getpid()} ")
        time.sleep(float((HERE / "seconds").read_text()))
        return {self.output: pa.array([len(text) for text in columns[0].to_pylist()])}
'''
SCENE = """
# Asks a program.
task: seq2label
model: scratch:encoder.yaml
plugin: ["exec:./plugins/own"]
train_dir: train.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels,slow_length:text:length
source_max_length: 32
max_steps: 1
bf16: false
tracking: false
"""


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`deepgen serve` with a folder for plugins; gives that folder."""
    for name in ("plugins", "outside"):
        (place / name).mkdir()
        (place / name / "own.py").write_text(PLUGIN)
        (place / name / "own").write_text(
            f'#!/bin/sh\nexec {" ".join(DEEPGEN)} plugin serve "$(dirname "$0")/own.py"\n'
        )
        (place / name / "own").chmod(0o755)
    (place / "plugins" / "seconds").write_text("0")
    (place / "slow.yaml").write_text(SCENE)
    with controller(place, monkeypatch, f"--plugins={place}/plugins", "--slots=1"):
        yield place / "plugins"


def programs(folder: Path) -> list[int]:
    """The processes that have answered."""
    until = time.monotonic() + 120
    while not (file := folder / "pids").exists() or not file.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    return [int(word) for word in file.read_text().split()]


def gone(pids: list[int]) -> None:
    until = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_program_ends_with_its_job(place: Path, served: Path, deepgen: Deepgen) -> None:
    outside = deepgen("submit", "slow.yaml", "--plugin=exec:./outside/own", exits=2).stderr
    assert outside.startswith(f"deepgen: --plugin = 'exec:{place}"[:60])
    assert outside.endswith("' is outside what this server allows for plugins (serve --plugins)\n")
    on_path = deepgen("submit", "slow.yaml", f"--plugin=exec:{sys.executable} plugins/own.py", exits=2).stderr
    assert "is outside what this server allows for plugins (serve --plugins)" in on_path
    assert main(["submit", "slow.yaml", "--id", "runs-through"]) == 0
    wait("runs-through", "SUCCEEDED")
    gone(programs(served))
    (served / "pids").unlink()
    (served / "seconds").write_text("3")
    assert main(["submit", "slow.yaml", "--id", "is-cancelled", "--source_max_length=31"]) == 0
    found = programs(served)
    assert all(map(is_alive, found))
    assert main(["cancel", "is-cancelled"]) == 0
    wait("is-cancelled", "CANCELLED")
    gone(found)
    assert not [*(place / "state").rglob("deepgen-plugins-*")]
