"""Answers rows of standard input on standard output, line by line and in order: `deepgen predict --from FOLDER`."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any, cast

from .errors import DataError, Interrupted, SceneError
from .finished import Finished
from .readers import cut, line_blocks, parse
from .realtime import Predictor
from .rows import Chunk, Source
from .run import RunSettings
from .scene import Scene

NAME = "standard input"
OF_A_FILE = (
    *("result_file", "output_dir", "overwrite_output_dir", "keep_rank_files", "num_ranks", "outputter_num_workers"),
    "datareader_streaming",
)
"""Settings that mean something only where a file is predicted."""


def answer(scene: Scene) -> int:
    """Answers every row until standard input ends; gives the exit code.

    A row that comes alone is answered at once; what has come together meanwhile is answered in batches. Each answer is
    flushed before the next rows are read.

    Raises:
        DataError: a bad row, where `bad_rows` is `fail`; the rows before it are answered.
        SceneError: settings that are for files.
        Interrupted: Ctrl-C or SIGTERM came; no line is left unfinished.
        BrokenPipeError: nobody reads the answers any more.
    """
    for name in OF_A_FILE:
        if scene.values[name].origin.kind == "command line":
            raise SceneError(
                f"--{name} is for a file of rows, and these come from standard input and are answered on standard "
                "output; give --predict_dir FILE, or leave it out"
            )
    if sys.stdin is None or sys.stdout is None:
        raise SceneError("--predict_dir is missing, and standard input or output is closed; say which file to predict")
    for note in scene.notes:
        _say(f"note: {note}")
    # as the launcher of a run: torch would take every core of the machine, also those that are not for this process
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    predictor = Predictor(scene)
    import torch

    torch.manual_seed(scene.read(RunSettings).seed)
    if os.isatty(0):
        columns = predictor.source.columns
        example = json.dumps(dict.fromkeys(columns, "…"), ensure_ascii=False)
        form = "<TAB>".join(columns) if predictor.source.formats == ("tsv",) else example
        _say(f"deepgen: waiting for rows, one a line: {form}; Ctrl-D ends")
    arriving = _Arriving(0, out.fileno())
    for answers in _answers(predictor, arriving):
        out.write(answers)
        out.flush()
    return 0


def _answers(predictor: Predictor, arriving: _Arriving) -> Iterator[bytes]:
    """The answers to each batch of rows."""
    kind, size = predictor.source.formats[0], predictor.batch_size
    source = predictor.used if kind == "jsonl" else predictor.source
    row = 0
    for block in line_blocks(cast(IO[bytes], arriving), NAME, _say):
        count = block.count(b"\n")
        chunk = Chunk(0, NAME, kind, row, row + 1, count, block)
        for begin in range(0, count, size):
            yield from _batch(predictor, source, cut(chunk, begin, min(begin + size, count)))
            arriving.leave_if_asked()
        row += count


def _batch(predictor: Predictor, source: Source, chunk: Chunk) -> Iterator[bytes]:
    """The answers to some rows; an empty line for one that cannot be read, so that answers stay in step with rows."""
    block = parse(source, chunk)
    made, rejects = predictor.answer(chunk, block.of(source.columns, predictor.used.columns))
    bad = {reject.row: reject for reject in rejects}
    answers = []
    for row in range(chunk.first_row, chunk.first_row + chunk.rows):
        if row in made:
            answers.append(lines_of(predictor, made[row]))
        elif predictor.bad_rows == "fail" and row in bad:
            yield b"".join(answers)
            raise DataError(f"{bad[row]}; mend it, or answer such rows with an empty line: --bad_rows skip")
        else:
            if row in bad:
                _say(f"deepgen: {bad[row]}")
            answers.append(b"\n")
    yield b"".join(answers)


def lines_of(predictor: Finished, row: bytes) -> bytes:
    """A row as lines of text; where the file of the outputter has no lines, as JSON."""
    if predictor.writes_lines:
        return row
    lines = [json.dumps(answer, ensure_ascii=False, default=_numbers) for answer in predictor.read(row)]
    return "".join(f"{line}\n" for line in lines).encode()


def _numbers(array: Any) -> list[float]:
    """A float32 array as the fewest digits that read back as the same numbers."""
    return [float(str(number)) for number in array]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class _Arriving:
    """Standard input, read as it arrives, until it ends, a signal asks for an end or the reader of the answers is gone.

    A signal waits for the answers that are under way.
    """

    def __init__(self, rows: int, answers: int) -> None:
        self._rows, self._answers = rows, answers
        self._asked = self._waits = False
        self._poll = select.poll()
        self._poll.register(rows, select.POLLIN)
        self._poll.register(answers, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def read(self, size: int) -> bytes:
        """What has arrived, at most `size` bytes; nothing at the end."""
        self._waits = True
        self.leave_if_asked()
        ready = dict(self._poll.poll())
        data = b"" if self._answers in ready else os.read(self._rows, size)
        self._waits = False
        if self._answers in ready:
            raise BrokenPipeError
        return data

    def leave_if_asked(self) -> None:
        """Ends it all when a signal has come meanwhile."""
        if self._asked:
            raise Interrupted("stopped")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if self._waits:
            raise Interrupted("stopped")
