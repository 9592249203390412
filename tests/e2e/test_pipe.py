"""`deepgen predict --from FOLDER` in a pipe: an answer for each row, in order, as soon as it is there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import DEEPGEN, call, lay_out

COMMAND = [*DEEPGEN, "predict", "--from", "runs/sentiment"]
TEXT = ["--predict_header", "text", "--result_header", "text"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a run whose rows were predicted in one batch, as a pipe that is full takes them."""
    place = lay_out(tmp_path_factory.mktemp("pipe"))
    settings = ("--max_steps", "1", "--tracking", "false", "--per_device_eval_batch_size", "64", "--do_eval", "false")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        call([*DEEPGEN, "run", "sentiment.yaml", *settings], place)
        yield place


def start(place: Path, *options: str, **pipes: Any) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    given: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    running: Any = subprocess.Popen([*COMMAND, *options], cwd=place, env=environment, **given)
    return running  # type: ignore[no-any-return]


def test_rows_are_answered_as_they_come(model: Path) -> None:
    rows = [line.split("\t")[0] for line in (model / "eval.tsv").read_text().splitlines()]
    running = start(model, *TEXT, "--bad_rows", "skip")
    stdin, stdout, stderr = running.stdin, running.stdout, running.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None
    for row in rows[:3]:  # each waits for its answer
        stdin.write(f"{row}\n".encode())
        stdin.flush()
        text, scores = stdout.readline().decode().split("\t")
        assert text == row
        assert sum(map(float, scores.split(","))) == pytest.approx(1, abs=1e-5)
    stdin.write(b"two\tcolumns\n" + f"{rows[3]}\n{rows[4]}".encode())  # the last line has no end
    stdin.close()
    answers = stdout.read().decode().split("\n")
    assert answers[0] == ""
    assert [answer.split("\t")[0] for answer in answers[1:]] == [*rows[3:5], ""]
    told = stderr.read().decode()
    assert told == "deepgen: standard input:4: has 2 fields where predict_header names 1\n"
    assert running.wait(60) == 0

    # together they are the result file of the run
    whole = start(model)
    out, told_more = whole.communicate((model / "eval.tsv").read_bytes(), timeout=300)
    assert (whole.returncode, told_more) == (0, b"")
    assert out == (model / "runs" / "sentiment" / "predict.txt").read_bytes()

    # a bad row ends it where bad rows are to fail, and those before it are answered
    strict = start(model, *TEXT)
    out, told_more = strict.communicate(b"good\nbad\tbad\nnot bad\n", timeout=300)
    assert strict.returncode == 2
    assert [line.split(b"\t")[0] for line in out.splitlines()] == [b"good"]
    assert told_more.startswith(b"deepgen: standard input:2: has 2 fields where predict_header names 1; mend it, or")
    assert b"Traceback" not in told_more


def test_its_ends_are_clean(model: Path) -> None:
    gone = start(model, *TEXT)  # nobody reads any more, and no further row comes
    assert gone.stdin is not None
    assert gone.stdout is not None
    gone.stdin.write(b"good\n")
    gone.stdin.flush()
    assert gone.stdout.readline()
    gone.stdout.close()
    assert gone.wait(60) == 0
    gone.stdin.close()
    assert gone.stderr is not None
    assert gone.stderr.read() == b""

    screen, terminal = pty.openpty()
    asked = start(model, *TEXT, "--file_format", "jsonl", "--output_type", "jsonl", stdin=terminal)
    assert asked.stdout is not None
    assert asked.stderr is not None
    assert asked.stderr.readline().decode() == 'deepgen: waiting for rows, one a line: {"text": "…"}; Ctrl-D ends\n'
    os.write(screen, b'{"text": "good"}\n')
    assert asked.stdout.readline().startswith(b'{"row": 0, "text": "good", "predicted_label": ')
    asked.send_signal(signal.SIGINT)
    out, told = asked.communicate(timeout=60)
    assert (asked.returncode, out) == (130, b"")
    assert b"Traceback" not in told

    refused = start(model, *TEXT, "--result_file", "x.txt")
    out, told = refused.communicate(b"good\n", timeout=60)
    assert (refused.returncode, out) == (2, b"")
    assert told.startswith(b"deepgen: --result_file is for a file of rows, and these come from standard input")
