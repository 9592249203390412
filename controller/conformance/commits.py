"""Checks that a result file has each row exactly once, whenever the outputter's process is killed."""

from __future__ import annotations

import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.results import ResultFile
from .answers import RESULT_COLUMNS, predictions, taken
from .case import Case
from .checks import Skipped, Wrong, check
from .server import Server
from .wire import Refused

BATCHES, ROWS = 12, 400
"""Of a file, and of each batch."""
Answer = TypeVar("Answer")


class _Again(Outputter):
    """An outputter whose process is started again, and configured and asked again, when it has died."""

    name = "checked"

    def __init__(self, case: Case) -> None:
        self.case = case

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._asked(lambda: self.case.subject.columns(self.case.main, problem, result_columns)))

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return self._asked(lambda: self.case.subject.format(self.case.main, predictions))

    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        if "assemble" not in self.case.descriptor.abilities:
            file.writelines(rows)
            return
        kept = [bytes(row) for row in rows]
        portions = [kept[begin : begin + 100] for begin in range(0, len(kept), 100)]
        file.write(self._asked(lambda: self.case.subject.assemble(self.case.main, portions, count)))

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        for _ in range(20):
            try:
                return ask()
            except Refused as refused:
                if refused.code not in ("UNAVAILABLE", "CANCELLED", "UNKNOWN", "INTERNAL", "NOT_FOUND"):
                    raise
                time.sleep(0.02)
        raise Wrong("a call after the process was killed", "no answer in 20 tries", "an answer of the next process")


def result_file(
    outputter: Outputter, whole: Predictions, folder: Path, between: Callable[[int], Any] = lambda batch: None
) -> bytes:
    """The result file, its rows written in batches that are not in the order of the rows."""
    order = np.random.default_rng(1).permutation(len(whole.rows))
    result = ResultFile(folder / "predict.out", outputter, 0, 1)
    with result:
        for batch, part in enumerate(np.array_split(order, BATCHES)):
            between(batch)
            result.write(taken(whole, part))
        between(BATCHES)
        count = result.commit(lambda mine: [mine], lambda: None, whole.rows)
    if count != len(whole.rows):
        raise Wrong(f"{len(whole.rows)} rows", f"{count} rows in the file", "each row once")
    left = sorted(path.name for path in folder.iterdir() if path.name != "predict.out")
    if left:
        raise Wrong("a result file that was published", f"also {left[0]}", "nothing beside it")
    return (folder / "predict.out").read_bytes()


@check("commit.file", "The result file is the rows in order, however they came in batches.", of="outputter")
def file(case: Case) -> None:
    for problem in case.problems[:2]:
        whole = predictions(problem, range(BATCHES * 20))
        rows = [row.encode() if isinstance(row, str) else row for row in case.subject.format(case.main, whole)]
        with tempfile.TemporaryDirectory() as folder:
            made = result_file(_Again(case), whole, Path(folder))
        if "assemble" in case.descriptor.abilities:
            right = case.subject.assemble(case.main, [rows], len(rows))
        else:
            right = b"".join(rows)
        if made != right:
            raise Wrong(f"{problem}: {len(rows)} rows in {BATCHES} batches", "another file", "the rows in their order")


@check("commit.exactly_once", "Killed at any moment and started again, each row is in the file exactly once.",
       of="outputter", needs_wire=True)  # fmt: skip
def exactly_once(case: Case) -> None:
    server = getattr(case.subject, "at", None)
    if not isinstance(server, Server) or not server.is_ours:
        raise Skipped("it was not started by this command, so it is not killed")
    problem = case.problems[0]
    whole = predictions(problem, range(BATCHES * (100 if case.quick else ROWS)), RESULT_COLUMNS)
    draw = np.random.default_rng(zlib.crc32(case.title.encode()))
    last = BATCHES + 1 if "assemble" in case.descriptor.abilities else BATCHES - 1
    moments = set(draw.choice(last, 1 if case.quick else 8, replace=False).tolist())
    with tempfile.TemporaryDirectory() as calm, tempfile.TemporaryDirectory() as wild:
        right = result_file(_Again(case), whole, Path(calm))
        before = server.restarts

        def kill(batch: int) -> None:
            """In the middle of the call that follows, or of the one behind it."""
            program = server.program
            if program is not None and batch in moments:
                threading.Timer(draw.uniform(0, 0.003), program.kill).start()

        made = result_file(_Again(case), whole, Path(wild), kill)
        time.sleep(0.05)
    given = f"{problem}: {len(whole.rows)} rows, killed {server.restarts - before} times"
    if made != right:
        lines = zip(made.splitlines() or [b""], right.splitlines(), strict=False)
        came, left_alone = next((pair for pair in lines if pair[0] != pair[1]), (b"fewer rows", b"each row"))
        raise Wrong(given, repr(came), f"{left_alone!r}, as when it is left alone")
    if server.restarts == before and server.program is not None and server.program.code(1.0) is None:
        raise Wrong(given, "it was never seen dead", "a process that kill -9 ends")
