"""Plugins of every kind in a program of their own, beside the same in this process."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel import registry
from deepgen.kernel.connections import connect, end_all
from deepgen.kernel.stand_ins.loading import load

PLUGINS = '''
"""Plugins for tests, under names that begin with PREFIX."""
import os
import signal
import tempfile
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from deepgen.kernel.contracts import BadRow, BadRows, Field, Metric, Outputter, Processor
from deepgen.kernel.drawing import uniform
from deepgen.kernel.errors import DataError, RunError, SceneError
from deepgen.kernel.options import Range
from deepgen.kernel.registry import metric, outputter, processor


@processor("PREFIX_words")
@dataclass
class Words(Processor):
    """Lengths of the words of a text."""

    scale: Annotated[int, Range(1, 9)] = 2
    """Each length times this."""
    mode: Literal["all", "first"] = "all"
    """Which words."""
    connection: str = ""
    """Nothing."""

    def check(self, scene, splits):
        if self.scale == 5:
            raise SceneError("scale = 5 is not a scale")
        return [f"{len(splits)} splits, source_max_length {scene.values['seed'].value}"]

    def fields(self):
        if self.output == "leave":
            raise SystemExit(7)
        return (Field(self.output, "int64", "ragged", 0, f"{self.output}_mask", length=True),)

    def process(self, columns):
        texts = columns[0].to_pylist()
        if "fail" in texts:
            raise ZeroDivisionError("never divide")
        if "data" in texts:
            raise DataError("data is wrong")
        if "stop" in texts:
            raise RunError("no more today")
        bad = [BadRow(row, self.inputs[0], text, "is shouted") for row, text in enumerate(texts) if text.isupper()]
        if bad:
            raise BadRows(bad)
        if any("die" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        words = [text.split()[: 1 if self.mode == "first" else None] for text in texts]
        self.count_cut(self.output, np.array([len(text) > 20 for text in texts]))
        lengths = [[self.scale * len(word) for word in one] for one in words]
        return {self.output: pa.array(lengths, pa.list_(pa.int64()))}


@processor("PREFIX_drawn")
@dataclass
class Drawn(Processor):
    """Numbers, some of which are drawn anew."""

    def fields(self):
        return (Field("plain", "int64"), Field("ragged", "int64", "ragged"), Field("fixed", "float32", "fixed"))

    def process(self, columns):
        lengths = [len(text) for text in columns[0].to_pylist()]
        return {
            "plain": pa.array(lengths),
            "ragged": pa.array([list(range(length)) for length in lengths], pa.list_(pa.int64())),
            "fixed": pa.array([[length, 1.5] for length in lengths], pa.list_(pa.float32())),
        }

    def draw(self, rows, keys):
        counts = [len(row) for row in rows["ragged"]]
        numbers = np.split((uniform(keys, counts) * 100).astype(np.int64), np.cumsum(counts)[:-1])
        return {"ragged": numbers, "plain": rows["plain"] + 1, "fixed": rows["fixed"] * np.float32(2)}


@metric("PREFIX_acc")
@dataclass
class Acc(Metric):
    """Share of rows whose best class is right."""

    fits = frozenset({"single_label_classification"})

    def keys(self):
        return ("PREFIX_acc", "PREFIX_rows")

    def update(self, predictions):
        return {"hits": np.array([(predictions.scores.argmax(1) == predictions.labels).sum()]),
                "rows": np.array([len(predictions.rows)])}

    def merge(self, states):
        return {key: sum(state[key] for state in states) for key in states[0]} if states else {}

    def compute(self, state, class_names=()):
        if not state:
            return {"PREFIX_acc": float("nan"), "PREFIX_rows": 0.0}
        return {"PREFIX_acc": float(state["hits"][0] / state["rows"][0]), "PREFIX_rows": float(state["rows"][0])}


@outputter("PREFIX_lines")
@dataclass
class Lines(Outputter):
    """Result columns and the best class."""

    fits = frozenset({"single_label_classification"})
    extension = ".tsv"

    def columns(self, problem, result_columns):
        return (*result_columns, "best")

    def format(self, predictions):
        heads = ["".join(f"{cell}\\t" for cell in cells) for cells in zip(*predictions.columns.values(), strict=True)]
        heads = heads or [""] * len(predictions.rows)
        return [f"{head}{predictions.class_names[best]}\\n" for head, best in zip(heads, predictions.scores.argmax(1))]


@outputter("PREFIX_packed")
@dataclass
class Packed(Outputter):
    """All rows in one block, with their count in front."""

    fits = frozenset({"single_label_classification"})
    times: int = 0
    """How often the program is ended while it assembles."""
    log: str = ""
    """Gets the name of a file that was put aside, each time."""

    def columns(self, problem, result_columns):
        return ("best",)

    def format(self, predictions):
        return [bytes([best]) for best in predictions.scores.argmax(1)]

    def assemble(self, rows, count, file):
        file.write(f"{count}:".encode())
        for row in rows:
            file.write(row)
        if self.times:
            with open(self.log, "a+") as log:
                print(tempfile.mkstemp()[1], file=log, flush=True)
                log.seek(0)
                if len(log.readlines()) <= self.times:
                    os.kill(os.getpid(), signal.SIGKILL)

    def read(self, row, columns):
        return [{"best": row[0]}]
'''


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The plugins under names that begin with `here` and `there`."""
    folder = tmp_path_factory.mktemp("plugins")
    found = {prefix: folder / f"{prefix}.py" for prefix in ("here", "there")}
    for prefix, file in found.items():
        file.write_text(PLUGINS.replace("PREFIX", prefix))
    return found


@pytest.fixture(scope="module")
def endpoint(files: dict[str, Path]) -> Iterator[str]:
    """The program."""
    command = [sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve", str(files["there"])]
    yield f"exec:{shlex.join(command)}"
    end_all()


@pytest.fixture
def both(files: dict[str, Path], endpoint: str) -> Callable[..., list[Any]]:
    """Makes a plugin here and the same in another process, with options; a processor is bound to `text` and `out`."""
    load(str(files["here"]))
    load(endpoint)

    def make(kind: str, name: str, **options: Any) -> list[Any]:
        made = []
        for prefix in ("here", "there"):
            plugin: Any = registry.find(kind, f"{prefix}_{name}").plugin(**options)
            if kind == "processor":
                plugin.bind(("text",), "out")
            made.append(plugin)
        return made

    return make


@pytest.fixture
def kill(endpoint: str, both: object) -> Callable[[], int]:
    """Kills the program with SIGKILL and gives the number it had."""

    def end() -> int:
        process = connect(endpoint).link.process
        assert process is not None
        pid = process.pid
        os.kill(pid, signal.SIGKILL)
        return pid

    return end
