"""The result file: each rank spools its rows, rank 0 merges them in row order and publishes the file by rename."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Annotated, Any

from .contracts import Outputter, Predictions, Problem
from .errors import RunError, SceneError
from .formatting import Formatted, Workers, formatted
from .options import Range

if TYPE_CHECKING:
    import numpy as np

RUN_FOLDER = frozenset({"scene.yaml", "events.jsonl", "metrics.json", "rejects.tsv", "log", "checkpoints", "model"})
"""Names in the run folder that a result file cannot take."""
USUAL: dict[Problem, str] = {"text": "generation", "masked_text": "generation", "embedding": "embedding"}
"""The outputter of a problem where the scene names none; `score` for the others."""
BLOCK = 4096
"""Rows whose places are looked up at once in a merge."""


@dataclass(frozen=True)
class ResultSettings:
    """What the result file holds and where it is."""

    result_header: tuple[str, ...] = ()
    """Columns of the input that each result row opens with, divided by commas."""
    result_file: str | None = None
    """Name of the result file in output_dir, or an absolute path; by default predict and the outputter's own ending."""
    keep_rank_files: bool = False
    """Also leave what each rank predicted, as RESULT_FILE_0, RESULT_FILE_1 and so on, in row order."""
    outputter_num_workers: Annotated[int, Range(0)] = 0
    """Processes of each rank that format rows while the model works; 0 formats between two batches, which is faster
    unless an outputter takes as long as the model does."""

    def path(self, output_dir: Path, outputter: Outputter, where: str = "result_file") -> Path:
        """Where the result file is.

        Raises:
            SceneError: `result_file` is no plain name, or one that the run folder needs for itself.
        """
        name = f"predict{outputter.extension}" if self.result_file is None else self.result_file
        if Path(name).is_absolute():
            if not Path(name).parent.is_dir() or Path(name).is_dir():
                problem = "is a folder" if Path(name).is_dir() else "is in a folder that does not exist"
                raise SceneError(f"{where} = '{name}' {problem}; give the path of a file")
            return Path(name)
        if not name or name != Path(name).name or name.startswith("."):
            raise SceneError(f"{where} = '{name}' is not a plain file name; the file is written to output_dir")
        if name in RUN_FOLDER:
            raise SceneError(
                f"{where} = '{name}' is a name that the run folder needs; choose another, such as predict.txt"
            )
        return output_dir / name


def outputter_name(given: str | None, problem: Problem) -> str:
    """The outputter that writes the answers to a problem: the one that is given, or the usual one."""
    return given or USUAL.get(problem, "score")


class ResultFile:
    """One result file, written by all ranks: `open`, `write` any number of times, then `commit` or `abort`.

    As a context manager it opens, and aborts unless `commit` was reached. Nothing is seen under the final name before
    `commit`; texts never gather in memory, only 16 bytes a row do. Rows are formatted here, or by `workers`.
    """

    def __init__(
        self,
        path: Path,
        outputter: Outputter,
        rank: int,
        ranks: int,
        *,
        keep_rank_files: bool = False,
        workers: Workers | None = None,
    ) -> None:
        self.path = path
        self.outputter = outputter
        self.rank = rank
        self.ranks = ranks
        self.keep_rank_files = keep_rank_files
        self.workers = workers
        self._spool: IO[bytes] | None = None
        self._rows: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []

    def __enter__(self) -> ResultFile:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def open(self) -> None:
        """Makes this rank's spool; one left behind by a run that died is overwritten."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._spool = self._spool_path(self.rank).open("wb")
        self._rows, self._lengths = [], []

    def write(self, predictions: Predictions) -> None:
        """Formats some rows and appends them to the spool; with workers, some of an earlier call may come instead.

        Raises:
            PluginError: the outputter did not give whole lines, or bytes, for each row.
            RunError: it failed, or a worker was ended.
        """
        if not len(predictions.rows):
            return
        if self.workers is None:
            self._append(formatted(self.outputter, predictions))
            return
        for made in self.workers.put(predictions):
            self._append(made)

    def _append(self, made: Formatted) -> None:
        assert self._spool is not None, "the result file is open"
        self._spool.write(made.data)
        self._rows.append(made.rows)
        self._lengths.append(made.lengths)

    def commit(
        self,
        gather: Callable[[Any], Sequence[Any] | None],
        barrier: Callable[[], None],
        expected: np.ndarray | None = None,
    ) -> int:
        """Merges the ranks' rows in row order and publishes the file; every rank calls it.

        Returns the number of rows in the file; on other ranks than 0, of those that the rank wrote.

        Args:
            gather: gives rank 0 a list of what each rank passed.
            barrier: returns when every rank has called it.
            expected: the row numbers that must be there, in any order; None to check only that none is doubled.

        Raises:
            RunError: a row is missing, doubled or not expected, or another rank's spool is not to be seen from rank 0.
        """
        import numpy as np

        assert self._spool is not None, "the result file is open"
        for made in () if self.workers is None else self.workers.finish():
            self._append(made)
        self._spool.close()
        empty = np.zeros(0, dtype=np.int64)
        rows, lengths = np.concatenate([empty, *self._rows]), np.concatenate([empty, *self._lengths])
        self._rows, self._lengths = [], []
        gathered, written = gather((rows, lengths)), len(rows)
        if self.rank == 0:
            assert gathered is not None, "rank 0 is given what was gathered"
            everything = np.concatenate([rows for rows, _ in gathered])
            check_rows(everything, expected)
            written = len(everything)
            self._publish(self.path, [self._spool_path(rank) for rank in range(self.ranks)], gathered)
        barrier()
        if self.keep_rank_files:
            self._publish(self._rank_path(self.rank), [self._spool_path(self.rank)], [(rows, lengths)])
        self._spool = None
        self._spool_path(self.rank).unlink(missing_ok=True)
        if self.rank == 0:  # what a run with more ranks left before this one
            self._remove(f".{self.path.name}.", ".spool", self.ranks)
            if self.keep_rank_files:
                self._remove(f"{self.path.name}_", "", self.ranks)
        return written

    def abort(self) -> None:
        """Leaves nothing behind, rank 0 not even the spools of ranks that were killed; no effect after a commit."""
        if self._spool is not None:
            if self.workers is not None:
                self.workers.kill()
            self._spool.close()
            self._spool = None
            self._spool_path(self.rank).unlink(missing_ok=True)
            if self.rank == 0:
                self._remove(f".{self.path.name}.", ".spool", 0)

    def discard(self) -> None:
        """Deletes what this rank has aside, for an end in the middle of anything: a signal handler may call it."""
        for path in (self._spool_path(self.rank), *(_aside(path) for path in (self.path, self._rank_path(self.rank)))):
            with suppress(OSError):
                path.unlink()

    def _spool_path(self, rank: int) -> Path:
        return self.path.with_name(f".{self.path.name}.{rank}.spool")

    def _rank_path(self, rank: int) -> Path:
        return self.path.with_name(f"{self.path.name}_{rank}")

    def _publish(self, path: Path, spools: list[Path], indices: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Writes the rows of all spools in row order aside, then gives the file its name."""
        aside = _aside(path)
        try:
            with aside.open("wb", buffering=1 << 20) as file:
                self.outputter.assemble(_in_row_order(spools, indices), sum(len(rows) for rows, _ in indices), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def _remove(self, before: str, after: str, least: int) -> None:
        """Removes the files beside the result named BEFORE, a rank number of at least `least`, AFTER."""
        for path in self.path.parent.iterdir():
            if path.name.startswith(before) and path.name.endswith(after):
                number = path.name[len(before) : len(path.name) - len(after)]
                if number.isdigit() and int(number) >= least:
                    path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Deletes what runs that were killed while they predicted have left in a folder where no run is going on."""
    for path in folder.glob(".*.spool"):
        if found := re.fullmatch(r"\.(.+)\.(\d+)\.spool", path.name):
            name, rank = found.groups()
            for leftover in (path, *(_aside(folder / one) for one in (name, f"{name}_{rank}"))):
                leftover.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.tmp")


def check_rows(rows: np.ndarray, expected: np.ndarray | None) -> None:
    """Every row once, and only those expected.

    Raises:
        RunError: it is not so; the message gives the first such row and how many there are.
    """
    import numpy as np

    rows = np.sort(rows)
    wrong = {"predicted more than once": np.unique(rows[1:][rows[1:] == rows[:-1]])}
    if expected is not None and not np.array_equal(rows, np.sort(expected)):
        wrong["missing"] = np.setdiff1d(expected, rows)
        wrong["not of the input"] = np.setdiff1d(rows, expected)
    for what, which in wrong.items():
        if len(which):
            more = f" and {len(which) - 1} more" if len(which) > 1 else ""
            raise RunError(f"the result file is not written: row {which[0]}{more} {what}")


def _in_row_order(spools: list[Path], indices: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[bytes]:
    """The bytes of each row of all spools, in row order."""
    import numpy as np

    order = np.argsort(np.concatenate([rows for rows, _ in indices]), kind="stable")
    lengths = np.concatenate([length for _, length in indices])
    starts = np.concatenate([np.cumsum(length) - length for _, length in indices])
    ranks = np.repeat(np.arange(len(indices)), [len(rows) for rows, _ in indices])
    with ExitStack() as stack:
        maps = [_mapped(spool, int(of.sum()), stack) for spool, (_, of) in zip(spools, indices, strict=True)]
        for first in range(0, len(order), BLOCK):
            some = order[first : first + BLOCK]
            begin = starts[some]
            pieces = zip(ranks[some].tolist(), begin.tolist(), (begin + lengths[some]).tolist(), strict=True)
            yield from (maps[rank][start:end] for rank, start, end in pieces)


def _mapped(spool: Path, size: int, stack: ExitStack) -> mmap.mmap | bytes:
    """The spool as memory until `stack` is left."""
    try:
        found = spool.stat().st_size
    except FileNotFoundError:
        raise RunError(
            f"{spool} of another rank is not there; output_dir must be on a disk that all hosts of the run share"
        ) from None
    if found != size:
        raise RunError(
            f"{spool} holds {found} bytes where its rank wrote {size}; is another run using this output_dir?"
        )
    if size == 0:
        return b""  # no file of no bytes can be mapped
    with spool.open("rb") as file:
        return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
