"""Rows that are formatted by workers of their own, over real ranks: the same file, or a stop with the cause."""

import os
from pathlib import Path

import psutil
import pytest

from .conftest import Deepgen

PLUGIN = '''
import os
from dataclasses import dataclass
from deepgen.kernel.contracts import Outputter
from deepgen.kernel.registry import outputter

@outputter("fails")
@dataclass
class Fails(Outputter):
    """Fails at the row 30."""
    fits = frozenset({"single_label_classification"})
    killed: bool = False
    """Ends its process instead."""

    def columns(self, problem, result_columns):
        return ("row",)

    def format(self, predictions):
        if 30 in predictions.rows:
            if self.killed:
                os.kill(os.getpid(), 9)
            raise ValueError("a row that nobody can write")
        return [f"{row}\\n" for row in predictions.rows]
'''


@pytest.fixture
def model(place: Path, deepgen: Deepgen) -> str:
    deepgen("run", "sentiment.yaml", "--max_steps", "1", "--tracking", "false", "--do_predict", "false")
    return str(place / "runs" / "sentiment" / "model")


def workers_left(place: Path) -> list[int]:
    """Processes that work in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()) == place and "work()" in process.cmdline()[-1]:
                found.append(process.pid)
        except (psutil.Error, IndexError, OSError):
            continue
    return found


def test_workers_write_the_same_file_and_their_failure_stops_the_run(place: Path, deepgen: Deepgen, model: str) -> None:
    (place / "fails.py").write_text(PLUGIN)
    predict = ("predict", "--from", model, "--predict_dir", "eval.tsv", "--per_device_eval_batch_size", "4")
    for out, ranks, workers in (("alone", "1", "0"), ("two", "2", "2")):
        options = ("--num_ranks", ranks, "--outputter_num_workers", workers, "--output_dir", out)
        deepgen(*predict, *options)
    assert (place / "two" / "predict.txt").read_bytes() == (place / "alone" / "predict.txt").read_bytes()

    for killed, cause in (("false", "ValueError: a row that nobody can write"), ("true", "was ended by SIGKILL")):
        options = ("--num_ranks", "2", "--outputter_num_workers", "2", "--output_dir", f"failed-{killed}")
        plugin = ("--plugin", "fails.py", "--output_type", "fails", "--killed", killed)
        done = deepgen(*predict, *options, *plugin, exits=1)
        assert cause in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        folder = place / f"failed-{killed}"
        assert not list(folder.glob("predict.*"))
        logs = "".join(log.read_text() for log in (folder / "log").glob("rank_*.log"))
        assert ('fails.py", line' in logs) is (killed == "false"), "the traceback is the worker's own"
        assert workers_left(place) == []
