"""What a person sees: whole outputs, in a file and on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepgen.kernel.events import EventStream
from deepgen.kernel.progress import Progress


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still; call it to let seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def _run(events: EventStream, advance: Callable[[float], None]) -> None:
    events.started(
        scene="sentiment",
        ranks=2,
        device="cpu",
        dtype="bfloat16",
        zero_stage=1,
        output_dir="runs/sentiment",
        parameters={"task": "seq2label"},
    )
    events.stage("features", detail="train")
    advance(2)
    events.progress("features", 20000, 20000, rows_per_second=10000)
    events.data_set("train", path="data/train.tsv", rows=20000)
    events.data_set("eval", path="data/dev.tsv", rows=2000, bad_rows=3)
    events.notice("labels are whole numbers from 0 to 1: single-label classification")
    events.stage("train", total=40, unit="steps")
    for step in range(1, 41):
        advance(1.5)
        values = {"loss": 1 / step, "learning_rate": 2e-5 * (1 - step / 40)} if step % 2 == 0 else None
        facts = {"rows_per_second": 251.0, "tokens_per_second": 12100.0, "seconds_left": 1.5 * (40 - step)}
        events.progress("train", step, 40, step=step, epoch=step / 20, values=values, **facts)
        if step % 20 == 0:
            events.stage("eval", total=2000, unit="rows")
            events.progress("eval", 2000, 2000, rows_per_second=900)
            scores = {"eval_auc": 0.95 + step / 1000, "eval_acc": 0.91 - step / 1000, "eval_loss": 0.25}
            events.scored("eval", scores, step=step, epoch=step / 20, best=step == 20)
            events.saved("checkpoint", f"runs/sentiment/checkpoints/step-{step}", step=step)
    events.notice("3 rows were cut", warning=True)
    events.saved("model", "runs/sentiment/model", step=40)
    events.stage("predict", total=2000, unit="rows")
    advance(3)
    events.progress("predict", 2000, 2000, rows_per_second=667)
    events.predicted("runs/sentiment/result.tsv", rows=2000)
    events.finished("succeeded", seconds=65)


def test_plain_lines_in_a_file(tmp_path: Path, clock: Callable[[float], None]) -> None:
    file = io.StringIO()
    events, shown = EventStream(tmp_path), Progress(file)
    events.subscribe(shown)
    _run(events, clock)
    shown.recorded("run 'sentiment' in mlflow.db; `deepgen ui` shows it")
    lines = file.getvalue().splitlines()
    assert lines[:12] == [
        "DeepGen   sentiment  seq2label, 2 ranks, cpu, bfloat16, ZeRO 1",
        "  output  runs/sentiment",
        "features  train",
        "features  train  20,000 rows in 2.0 s  10.0k rows/s",
        "  train      20,000 rows  data/train.tsv",
        "  eval        2,000 rows  data/dev.tsv  3 bad rows left out",
        "note      labels are whole numbers from 0 to 1: single-label classification",
        "train     40 steps",
        "train     10%  4/40  epoch 0.20  loss 0.2500  lr 1.8e-05  251 rows/s  12.1k tokens/s  0:54 left",
        "train     20%  8/40  epoch 0.40  loss 0.1250  lr 1.6e-05  251 rows/s  12.1k tokens/s  0:48 left",
        "train     30%  12/40  epoch 0.60  loss 0.0833  lr 1.4e-05  251 rows/s  12.1k tokens/s  0:42 left",
        "train     40%  16/40  epoch 0.80  loss 0.0625  lr 1.2e-05  251 rows/s  12.1k tokens/s  0:36 left",
    ]
    assert lines[13:15] == [
        "eval      step 20  epoch 1.00  acc 0.8900  auc 0.9700  loss 0.2500  best",
        "saved     checkpoints/step-20",
    ]
    assert lines[19:] == [
        "train     40 steps in 1:00  251 rows/s",
        "eval      step 40  epoch 2.00  acc 0.8700  auc 0.9900  loss 0.2500",
        "saved     checkpoints/step-40",
        "warning   3 rows were cut",
        "predict   2,000 rows",
        "predict   2,000 rows in 3.0 s  667 rows/s",
        "",
        "done      in 1:05",
        "  scores           best, step 20     last, step 40",
        "          acc             0.8900            0.8700",
        "          auc             0.9700            0.9900",
        "          loss            0.2500            0.2500",
        "  model   runs/sentiment/model",
        "  result  runs/sentiment/result.tsv  (2,000 rows)",
        "  MLflow  run 'sentiment' in mlflow.db; `deepgen ui` shows it",
    ]


def test_a_quiet_stage_still_says_something_every_half_minute(tmp_path: Path, clock: Callable[[float], None]) -> None:
    file = io.StringIO()
    events = EventStream(tmp_path)
    events.subscribe(Progress(file))
    events.stage("train", total=10**6, unit="steps")
    for step in range(1, 100):
        clock(1)
        events.progress("train", step, 10**6, step=step)
    assert file.getvalue().splitlines() == [
        "train     1,000,000 steps",
        *(f"train     0%  {step}/1,000,000" for step in (30, 60, 90)),
    ]


@pytest.mark.parametrize(
    ("state", "line"),
    [("failed", "failed    in 0:12  the disk is full"), ("interrupted", "stopped   in 0:12  the disk is full")],
)
def test_an_end_that_is_no_success_is_named(tmp_path: Path, state: str, line: str) -> None:
    file = io.StringIO()
    events = EventStream(tmp_path)
    events.subscribe(Progress(file))
    events.finished(state, "the disk\nis full", seconds=12)  # type: ignore[arg-type]
    assert file.getvalue().splitlines() == ["", line]


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path) -> None:
    file = io.StringIO()
    events = EventStream(tmp_path)
    events.subscribe(Progress(file))
    events.started(
        scene="s", ranks=1, device="cuda", dtype="float16", zero_stage=0, output_dir="runs/s", resumed_step=1200
    )
    assert file.getvalue().startswith("DeepGen   s  1 rank, cuda, float16, goes on from step 1,200\n")


def test_a_closed_terminal_does_not_end_the_run(tmp_path: Path, clock: Callable[[float], None]) -> None:
    file = io.StringIO()
    events = EventStream(tmp_path)
    events.subscribe(Progress(file))
    events.notice("before")
    file.close()
    _run(events, clock)


@contextmanager
def _terminal(columns: int) -> Iterator[tuple[io.TextIOWrapper, Callable[[], str]]]:
    """A real terminal of that width: its file, and a function that gives what was written to it."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    got = bytearray()

    def read() -> str:
        while True:
            try:
                got.extend(os.read(ours, 65536))
            except BlockingIOError:
                return got.decode()

    class Drained(io.TextIOWrapper):
        def flush(self) -> None:
            super().flush()
            read()

    file = Drained(os.fdopen(theirs, "wb", 0), encoding="utf-8", write_through=True)
    yield file, read
    file.close()
    os.close(ours)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_one_live_line_that_never_wraps(
    tmp_path: Path, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with _terminal(columns) as (file, read):
        events = EventStream(tmp_path)
        events.subscribe(Progress(file))
        _run(events, clock)
        text = read()
    drawn = [part for part in re.split(r"[\r\n]", text) if "█" in part]
    assert len(drawn) >= 40
    assert all(len(part) < columns for part in drawn)
    at_work = [part for part in drawn if part.startswith("train")]
    assert all("loss" in part and "left" in part for part in at_work[2:30])
    assert all(("tokens/s" in part) == (columns == 120) for part in at_work[2:])
    # What remains on the screen are the permanent lines.
    screen = [line.split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    assert "eval      step 20  epoch 1.00  acc 0.8900  auc 0.9700" in "\n".join(screen)
    assert all(len(line) < max(columns, 80) for line in screen)
    assert not any("█" in line for line in screen)
