"""A run that is stopped while it predicts: it hears of it soon, leaves nothing behind, and goes on to the same file."""

import os
import signal
import subprocess
import time
from pathlib import Path

from .conftest import DEEPGEN, Deepgen

SLOW = '''
"""Writes rows slowly, and tells that it does."""
import os
import time
from dataclasses import dataclass

from deepgen.kernel.contracts import Outputter
from deepgen.kernel.registry import outputter


@outputter("slow_lines")
@dataclass
class SlowLines(Outputter):
    """The text."""

    fits = frozenset({"single_label_classification"})
    told: str = ""
    """A file with a line for each call."""

    def columns(self, problem, result_columns):
        return (*result_columns, "score")

    def format(self, predictions):
        if os.path.exists(self.told):
            with open(self.told, "a") as file:
                print(os.environ["RANK"], file=file)
            time.sleep(0.5)
        scores = predictions.scores[:, 1].tolist()
        return [f"{text}\\t{score:.4f}\\n" for text, score in zip(predictions.columns["text"], scores, strict=True)]
'''
OPTIONS = (
    "--num_ranks",
    "2",
    "--plugin",
    "slow.py",
    "--output_type",
    "slow_lines",
    "--told",
    "told",
    "--max_steps",
    "2",
)
MORE = ("--tracking", "false", "--do_eval", "false", "--per_device_eval_batch_size", "1")


def stopped(place: Path, how: str) -> tuple[int, str, int]:
    """Runs the scene and stops it once it predicts; gives the exit code, what it said, and the calls after that."""
    told = place / "told"
    told.write_text("")
    process = subprocess.Popen(
        [*DEEPGEN, "run", "sentiment.yaml", *OPTIONS, *MORE],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 120
    while len(told.read_text().split()) < 4 or len(set(told.read_text().split())) < 2:
        assert time.monotonic() < until, process.communicate(timeout=5)
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    before = len(told.read_text().split())
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if how == "killed":
        for rank in ranks:
            os.kill(int(rank), signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT)
    if how == "twice":
        time.sleep(0.3)  # two signals that come at once can be one
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    return process.returncode, said, len(told.read_text().split()) - before


def left(place: Path) -> list[str]:
    """Files that a result is made of, which nobody should see."""
    return sorted(path.name for path in (place / "runs" / "sentiment").glob(".*"))


def test_a_run_that_is_stopped_while_it_predicts(place: Path, deepgen: Deepgen) -> None:
    (place / "slow.py").write_text(SLOW)
    code, said, calls = stopped(place, "once")
    assert code == 130, said
    assert calls < 16  # of 62
    assert said.count("stopping; Ctrl-C again ends it at once\n") == 1
    assert left(place) == []

    code, said, _ = stopped(place, "twice")
    assert code == 130, said
    assert left(place) == []

    code, said, _ = stopped(place, "killed")
    assert code == 1, said
    assert left(place) != []
    (place / "told").unlink()
    deepgen("run", "sentiment.yaml", *OPTIONS, *MORE)
    deepgen("run", "sentiment.yaml", *OPTIONS, *MORE, "--output_dir", "whole")
    assert left(place) == []
    folder = place / "runs" / "sentiment"
    assert (folder / "predict.txt").read_bytes() == (place / "whole" / "predict.txt").read_bytes()
    assert len((folder / "predict.txt").read_text().splitlines()) == 61
