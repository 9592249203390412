"""Rows that are formatted by workers of their own, over real ranks: the same file, or a stop with the cause."""

import os
from functools import partial
from pathlib import Path

import psutil

from .conftest import Deepgen, Finished, at_once

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


def test_workers_write_the_same_file_and_their_failure_stops_the_run(
    place: Path, deepgen: Deepgen, classifier: Finished
) -> None:
    (place / "fails.py").write_text(PLUGIN)
    predict = ("predict", "--from", classifier.model, "--predict_dir", "eval.tsv", "--per_device_eval_batch_size", "4")
    kinds = (("alone", "1", "0"), ("two", "2", "2"))
    options = [
        ("--num_ranks", ranks, "--outputter_num_workers", workers, "--output_dir", out) for out, ranks, workers in kinds
    ]
    at_once(deepgen, *([*predict, *words] for words in options))
    assert (place / "two" / "predict.txt").read_bytes() == (place / "alone" / "predict.txt").read_bytes()

    causes = {"false": "ValueError: a row that nobody can write", "true": "was ended by SIGKILL"}
    plugin = ("--plugin", "fails.py", "--output_type", "fails")
    two = ("--num_ranks", "2", "--outputter_num_workers", "2")
    ways = ([*predict, *plugin, *two, "--output_dir", f"failed-{killed}", "--killed", killed] for killed in causes)
    for done, (killed, cause) in zip(at_once(partial(deepgen, exits=1), *ways), causes.items(), strict=True):
        assert cause in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        folder = place / f"failed-{killed}"
        assert not list(folder.glob("predict.*"))
        logs = "".join(log.read_text() for log in (folder / "log").glob("rank_*.log"))
        assert ('fails.py", line' in logs) is (killed == "false"), "the traceback is the worker's own"
        assert workers_left(place) == []
