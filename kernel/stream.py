"""Streaming: rows are read, made into features and used in one pass; nothing is indexed, kept or put out of order.

Every rank reads the raw rows, which is cheap, and makes features of its own share alone. Which rows are whose follows
from their numbers, so every row is used exactly once, all ranks take as many steps, and a position is a row number.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from .batches import BatchSettings, MicroBatch, Padding, collate, micro_batch, prefetch
from .contracts import Batch, Field, Labels
from .errors import DataError
from .processing import LENGTH, ROW, Processing
from .readers import chunks, cut, parse
from .rows import BadRowPolicy, Block, Chunk, Reject, RowSettings, refuse, report
from .table import Table

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .scene import Scene, Split

WINDOW = 2048
"""Rows of a rank that are made into features at once: enough for a batch tokenizer, little enough for the memory."""
EVAL_BATCHES = 8
"""Batches among which rows are sorted by length in evaluation and prediction."""
Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Window:
    """Features of some rows, in memory."""

    table: Table
    rows: np.ndarray
    """[rows] int64: row numbers in the input, rising."""
    lengths: np.ndarray
    """[rows] int32: tokens."""
    rejects: list[Reject]


@dataclass
class Input:
    """The input of a split as a stream."""

    scene: Scene
    split: Split
    pretrained: Pretrained | None
    keep_columns: Sequence[str] = ()
    rejects: Path | None = None
    """The file for bad rows under `bad_rows: quarantine`."""
    notice: Callable[[str], None] = lambda _: None
    bad_rows: int = 0
    """Bad rows of this rank's share that were left out so far."""
    _seen: int = -1
    """The last row whose fault was reported, so that a second epoch does not report it again."""
    _told: set[str] = field(default_factory=set)
    _own: threading.local = field(default_factory=threading.local)

    def __post_init__(self) -> None:
        self.policy: BadRowPolicy = self.scene.read(RowSettings).bad_rows
        self.source = self._processing().source

    def _processing(self) -> Processing:
        """Processors of this thread alone."""
        if not hasattr(self._own, "processing"):
            self._own.processing = Processing(self.scene, self.split, self.pretrained, self.keep_columns)
        found: Processing = self._own.processing
        return found

    def chunks(self) -> Iterator[Chunk]:
        """The raw rows from the beginning; a notice about a file is given once, and not in every epoch."""

        def tell(message: str) -> None:
            if message not in self._told:
                self._told.add(message)
                self.notice(message)

        return chunks(self.source, tell)

    @cached_property
    def rows(self) -> int:
        """All rows, bad ones too; counted in a pass over the input that parses as little as it can."""
        return sum(chunk.rows for chunk in self.chunks())

    @cached_property
    def example(self) -> Window:
        """The first good row: it tells the fields, and fills in where a rank has no row."""
        for chunk in self.chunks():
            for begin in range(0, chunk.rows, 64):
                piece = cut(chunk, begin, min(begin + 64, chunk.rows))
                made = self._processing().run(piece)
                if made.batch.num_rows:
                    return self._window([made.batch.slice(0, 1)], [])
        raise DataError(f"{self.source.where}: there is no good row in it")

    @cached_property
    def labels(self) -> Labels | None:
        """What is known of the field `labels`; class numbers are found in a pass over their column alone."""
        name = "labels"
        found = self.example.table.fields.get(name)
        if found is None:
            return None
        processing = Processing(self.scene, self.split, self.pretrained)
        names = processing.class_names[name]
        if found.shape == "fixed":
            return Labels(found, len(self.example.table.take(np.zeros(1, np.int64), [name])[name][0]), names)
        if found.dtype != "int64" or found.shape != "scalar":
            return Labels(found, 1, names)
        if names:
            return Labels(found, len(names), names)
        processing.processors = [p for p in processing.processors if name in (one.name for one in p.fields())]
        most = 0
        for chunk in self.chunks():
            values = processing.run(chunk).batch.column(name).to_numpy()
            if values.min(initial=0) < 0 and values.min() != -100:
                raise DataError(f"{self.source.where}: the least label is {values.min()}; classes are numbered from 0")
            most = max(most, int(values.max(initial=0)))
        return Labels(found, most + 1)

    def window(self, pieces: Iterable[Chunk]) -> Window:
        """The features of some rows in order, bad ones left out as the scene says."""
        batches, rejects = [], list[Reject]()
        for _, same_file in groupby(pieces, key=lambda piece: piece.file):
            listed = list(same_file)
            block = _join([parse(self.source, piece) for piece in listed])
            made = self._processing().make(listed[0], block)
            batches += [made.batch] if made.batch.num_rows else []
            rejects += made.rejects
        refuse(rejects, self.policy)
        return self._window(batches, rejects)

    def count(self, rejects: Sequence[Reject]) -> None:
        """Reports the bad rows of a window when its turn comes; those of an earlier epoch are known."""
        new = [reject for reject in rejects if reject.row > self._seen]
        if new:
            self._seen = new[-1].row
            self.bad_rows += len(new)
            report(new, self.policy, self.rejects, self.notice)

    def _window(self, batches: Sequence[pa.RecordBatch], rejects: list[Reject]) -> Window:
        if not batches:
            return replace(self.example, rows=np.empty(0, np.int64), lengths=np.empty(0, np.int32), rejects=rejects)
        processing = self._processing()
        names = [name for name in batches[0].schema.names if name in processing.fields]
        fields: dict[str, Field] = {name: processing.fields[name] for name in names}
        table = Table(fields, [batch.num_rows for batch in batches], batches.__getitem__)
        rows = [batch.column(ROW).to_numpy() for batch in batches]
        lengths = [batch.column(LENGTH).to_numpy() for batch in batches]
        return Window(table, np.concatenate(rows), np.concatenate(lengths), rejects)


class TrainStream:
    """The training split as a stream: each step takes the next rows of the files, dealt to the ranks in order."""

    def __init__(
        self,
        given: Input,
        padding: Padding,
        settings: BatchSettings,
        accumulation: int = 1,
        ranks: int = 1,
        rank: int = 0,
    ) -> None:
        self.input, self.padding, self.settings = given, padding, settings
        self.accumulation, self.ranks, self.rank = accumulation, ranks, rank
        self.own_batch = settings.per_device_train_batch_size * accumulation
        self.global_batch = self.own_batch * ranks

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch, bad rows counted too; a pass over the input finds it."""
        return -(-self.input.rows // self.global_batch)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[MicroBatch]]:
        """The steps from `first_step` on, the same in every epoch; rows before them are passed over unread."""

        def window(work: tuple[range, list[Chunk]]) -> tuple[range, Window]:
            return work[0], self.input.window(work[1])

        def steps() -> Iterator[list[MicroBatch]]:
            for numbers, made in in_order(window, self._windows(first_step), self.settings.dataloader_num_workers):
                self.input.count(made.rejects)
                for number in numbers:
                    bounds = np.searchsorted(made.rows, [number * self.global_batch, (number + 1) * self.global_batch])
                    yield self._micro_batches(made, np.arange(*bounds))

        return prefetch(steps())

    def _windows(self, first_step: int) -> Iterator[tuple[range, list[Chunk]]]:
        """(steps, this rank's rows of them) until the input ends."""
        size, own, begin = self.global_batch, self.own_batch, first_step
        many = max(1, WINDOW // own)
        pieces: list[Chunk] = []
        last = 0
        for chunk in self.input.chunks():
            last = chunk.first_row + chunk.rows
            for step in range(max(begin, chunk.first_row // size), -(-last // size)):
                if step == begin + many:
                    yield range(begin, step), pieces
                    begin, pieces = step, []
                start = step * size + self.rank * own
                piece = _overlap(chunk, start, start + own)
                pieces += [piece] if piece.rows else []
        if (end := -(-last // size)) > begin:
            yield range(begin, end), pieces

    def _micro_batches(self, made: Window, rows: np.ndarray) -> list[MicroBatch]:
        rows = rows[np.argsort(-made.lengths[rows], kind="stable")]
        return [
            micro_batch(made.table, slot, made.lengths, self.padding)
            if len(slot)
            else replace(micro_batch(self.input.example.table, np.zeros(1, np.int64), np.ones(1), self.padding), rows=0)
            for slot in np.array_split(rows, self.accumulation)
        ]


class EvalStream:
    """A split as a stream of batches, for evaluation and prediction; stands for `Features` there too.

    Iterates (batch, row numbers). Some batches' worth of rows at a time are sorted by length and belong to one rank, so
    that batches are the same for any number of ranks. Every rank gets as many batches; one without rows does not count.
    """

    def __init__(self, given: Input, padding: Padding, settings: BatchSettings, ranks: int = 1, rank: int = 0) -> None:
        self.input, self.padding, self.settings, self.ranks, self.rank = given, padding, settings, ranks, rank
        self.size = settings.per_device_eval_batch_size
        self._latest: tuple[Window, np.ndarray] | None = None

    def __len__(self) -> int:
        """Rows of the input, bad ones too."""
        return self.input.rows

    @property
    def row_numbers(self) -> _Same:
        """Rows are known by their numbers here."""
        return _Same()

    def columns(self, names: Sequence[str], rows: np.ndarray) -> dict[str, list[str]]:
        """The text of columns that were kept, for rows of the batch that was given last."""
        assert self._latest is not None, "a batch was given"
        window, _ = self._latest
        return window.table.columns(names, np.searchsorted(window.rows, rows))

    def __iter__(self) -> Iterator[tuple[Batch, np.ndarray]]:
        def make(work: tuple[int, list[Chunk]]) -> tuple[int, Window | None]:
            return work[0], self.input.window(work[1]) if work[1] else None

        def batches() -> Iterator[tuple[Batch, np.ndarray, Window]]:
            for count, made in in_order(make, self._rounds(), self.settings.dataloader_num_workers):
                order = np.empty(0, np.int64)
                if made is not None:
                    self.input.count(made.rejects)
                    order = np.arange(len(made.rows))
                    if self.settings.group_by_length:
                        order = np.argsort(-made.lengths, kind="stable")
                for turn in range(count):
                    rows = order[turn * self.size : (turn + 1) * self.size]
                    if made is not None and len(rows):
                        yield collate(made.table, rows, self.padding), made.rows[rows], made
                    else:
                        example = self.input.example
                        filler = collate(example.table, np.zeros(1, np.int64), self.padding)
                        yield filler, np.empty(0, np.int64), example

        for batch, rows, window in prefetch(batches()):
            self._latest = window, rows
            yield batch, rows

    def _rounds(self) -> Iterator[tuple[int, list[Chunk]]]:
        """(batches that every rank has in this round, this rank's rows of it): a window for each rank in turn."""
        window = self.size * EVAL_BATCHES
        size = window * self.ranks
        number, last = 0, 0
        pieces: list[Chunk] = []
        for chunk in self.input.chunks():
            last = chunk.first_row + chunk.rows
            for turn in range(chunk.first_row // size, -(-last // size)):
                if turn == number + 1:
                    yield EVAL_BATCHES, pieces
                    number, pieces = turn, []
                start = turn * size + self.rank * window
                piece = _overlap(chunk, start, start + window)
                pieces += [piece] if piece.rows else []
        if last > number * size:
            yield -(-min(window, last - number * size) // self.size), pieces


class _Same:
    """Row numbers by row number."""

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return rows


def in_order(make: Callable[[Work], Result], works: Iterable[Work], workers: int) -> Iterator[Result]:
    """What `make` gives for each work, in order, made ahead by so many threads."""
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, "features")
    try:
        for work in works:
            waiting.append(pool.submit(make, work))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _overlap(chunk: Chunk, begin: int, end: int) -> Chunk:
    """The rows of a chunk that are in a range of row numbers."""
    first = min(max(begin - chunk.first_row, 0), chunk.rows)
    return cut(chunk, first, min(max(end - chunk.first_row, first), chunk.rows))


def _join(blocks: Sequence[Block]) -> Block:
    columns: list[Any] = [pa.concat_arrays(parts) for parts in zip(*(block.columns for block in blocks), strict=True)]
    rejects = [reject for block in blocks for reject in block.rejects]
    rows, lines = (np.concatenate([vars(block)[name] for block in blocks]) for name in ("rows", "lines"))
    return Block(columns, rows, lines, blocks[0].file, rejects)
