"""Streaming: rows are read, made into features and used in one pass; nothing is indexed, kept or put out of order.

Every rank reads the raw rows, which is cheap, and makes features of its own share alone. Which rows are whose follows
from their numbers, so every row is used exactly once, all ranks take as many steps, and a position is a row number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .batches import BatchSettings, EvalBatches, MicroBatch, Padding, TrainBatches, collate, micro_batch, prefetch
from .contracts import Batch
from .drawing import drawn
from .features import Features, prepare
from .flow import Input, Window
from .processing import in_order
from .readers import cut
from .rows import Chunk

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .scene import Scene, Split

WINDOW = 2048
"""Rows of a rank that are made into features at once: enough for a batch tokenizer, little enough for the memory."""
EVAL_BATCHES = 8
"""Batches among which rows are sorted by length in evaluation and prediction."""


def open_split(
    scene: Scene,
    split: Split,
    pretrained: Pretrained | None,
    *,
    keep_columns: Sequence[str] = (),
    rejects: Path | None = None,
    rank: int = 0,
    ranks: int = 1,
    barrier: Callable[[], None] = lambda: None,
    notice: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features | Input:
    """The features of a split, or its input as a stream where the scene asks for one; see `features.prepare`."""
    if scene.read(BatchSettings).datareader_streaming:
        return Input(scene, split, pretrained, keep_columns, rejects, notice)
    return prepare(
        scene,
        split,
        pretrained,
        keep_columns=keep_columns,
        rejects=rejects,
        rank=rank,
        ranks=ranks,
        barrier=barrier,
        notice=notice,
        progress=progress,
    )


def train_batches(
    made: Features | Input,
    padding: Padding,
    settings: BatchSettings,
    accumulation: int = 1,
    ranks: int = 1,
    rank: int = 0,
    seed: int = 42,
) -> TrainBatches | TrainStream:
    """The steps of the training split."""
    if isinstance(made, Input):
        return TrainStream(made, padding, settings, accumulation, ranks, rank, seed)
    return TrainBatches(made, padding, settings, accumulation, ranks, rank, seed, made.drawing)


def eval_batches(
    made: Features | Input, padding: Padding, settings: BatchSettings, ranks: int = 1, rank: int = 0
) -> tuple[Features | EvalStream, EvalBatches | EvalStream]:
    """The batches of a split, and what knows the row numbers and the kept columns of a batch."""
    if isinstance(made, Input):
        stream = EvalStream(made, padding, settings, ranks, rank)
        return stream, stream
    return made, EvalBatches(made, padding, settings, ranks, rank, made.drawing)


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
        seed: int = 42,
    ) -> None:
        self.input, self.padding, self.settings = given, padding, settings
        self.accumulation, self.ranks, self.rank, self.seed = accumulation, ranks, rank, seed
        self.own_batch = settings.per_device_train_batch_size * accumulation
        self.global_batch = self.own_batch * ranks

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch, bad rows counted too; a pass over the input finds it."""
        return -(-self.input.rows // self.global_batch)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[MicroBatch]]:
        """The steps from `first_step` on, of the same rows in every epoch; rows before them are passed over unread."""

        def window(work: tuple[range, list[Chunk]]) -> tuple[range, Window]:
            return work[0], self.input.window(work[1])

        def steps() -> Iterator[list[MicroBatch]]:
            for numbers, made in in_order(window, self._windows(first_step), self.settings.dataloader_num_workers):
                self.input.count(made.rejects)
                for number in numbers:
                    bounds = np.searchsorted(made.rows, [number * self.global_batch, (number + 1) * self.global_batch])
                    yield self._micro_batches(made, np.arange(*bounds), epoch)

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

    def _micro_batches(self, made: Window, rows: np.ndarray, epoch: int) -> list[MicroBatch]:
        drawing, example = self.input.drawing, self.input.example
        table = drawn(made.table, drawing, made.rows, self.seed, epoch)
        rows = rows[np.argsort(-made.lengths[rows], kind="stable")]
        return [
            micro_batch(table, slot, made.lengths, self.padding)
            if len(slot)
            else micro_batch(
                drawn(example.table, drawing, example.rows), np.empty(0, np.int64), np.empty(0), self.padding
            )
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

    @property
    def expected(self) -> np.ndarray | None:
        """Which rows are good is not known ahead."""
        return None

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
                    one = made if made is not None and len(rows) else self.input.example
                    table = drawn(one.table, self.input.drawing, one.rows)
                    if one is made:
                        yield collate(table, rows, self.padding), one.rows[rows], one
                    else:
                        yield collate(table, np.zeros(1, np.int64), self.padding), np.empty(0, np.int64), one

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


def _overlap(chunk: Chunk, begin: int, end: int) -> Chunk:
    """The rows of a chunk that are in a range of row numbers."""
    first = min(max(begin - chunk.first_row, 0), chunk.rows)
    return cut(chunk, first, min(max(end - chunk.first_row, first), chunk.rows))
