"""Batches: rows of like length together, the same rows in each step for any number of ranks, padded and masked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np

from .contracts import NO_ROWS, Batch, Field, Processor
from .drawing import Rows, drawn
from .options import Alias, Range

if TYPE_CHECKING:
    from .features import Features

T = TypeVar("T")


@dataclass(frozen=True)
class BatchSettings:
    """How rows become batches."""

    per_device_train_batch_size: Annotated[int, Alias("train_batch_size"), Range(1)] = 16
    """Rows of a forward pass in training, on each rank."""
    per_device_eval_batch_size: Annotated[int, Alias("eval_batch_size"), Range(1)] = 32
    """Rows of a forward pass in evaluation and prediction, on each rank."""
    group_by_length: bool = True
    """Put rows of like length into one batch, so that little of it is padding."""
    shuffle_num_batch: Annotated[int, Range(1)] = 50
    """Rows are sorted by length within pools of so many global batches, which are drawn at random."""
    datareader_streaming: bool = False
    """Read, tokenize and train in one pass, in the order of the files: nothing is indexed, kept or shuffled."""
    dataloader_num_workers: Annotated[int, Range(1)] = 2
    """Threads of a rank that make features while the model works, in streaming."""


@dataclass(frozen=True)
class Padding:
    """What the tokenizer pads with."""

    pad_token: int = 0
    pad_token_type: int = 0
    side: Literal["left", "right"] = "right"
    multiple: int = 1
    """Widths are rounded up to a multiple of this, but not past `longest`."""
    longest: int | None = None
    """The most tokens that the model takes."""

    def width(self, lengths: np.ndarray) -> int:
        """Columns for rows of these lengths."""
        needed = max(1, int(lengths.max(initial=0)))
        rounded = -(-needed // self.multiple) * self.multiple
        return rounded if self.longest is None else max(needed, min(rounded, self.longest))


@dataclass(frozen=True)
class MicroBatch:
    """What one rank puts through the model at once."""

    batch: Batch
    rows: int
    """0: no rows were left for this rank; the batch holds one row whose loss must not count."""
    tokens: int
    """Real tokens, without padding."""


def collate(features: Rows, rows: np.ndarray, padding: Padding) -> Batch:
    """Tensors of some rows: ragged fields are padded to the longest, with masks where the fields ask for them."""
    import torch

    batch: Batch = {}
    for name, values in features.take(rows).items():
        field = features.fields[name]
        if field.dtype == "string":
            batch[name] = values
        elif field.shape != "ragged":
            batch[name] = torch.from_numpy(values)
        else:
            filled, mask = _pad(values, field, padding)
            batch[name] = torch.from_numpy(filled)
            if field.mask is not None:
                batch[field.mask] = torch.from_numpy(mask)
    return batch


def _pad(values: Sequence[np.ndarray], field: Field, padding: Padding) -> tuple[np.ndarray, np.ndarray]:
    """The rows as one array, and where it is not padding."""
    fill = {"pad_token": padding.pad_token, "pad_token_type": padding.pad_token_type}.get(str(field.padding))
    lengths = np.array([len(row) for row in values], np.int64)
    mask = np.arange(padding.width(lengths)) < lengths[:, None]
    if field.side == "tokenizer" and padding.side == "left":
        mask = mask[:, ::-1]
    filled = np.full(mask.shape, field.padding if fill is None else fill, field.dtype)
    filled[mask] = np.concatenate(values) if values else 0
    return filled, mask.astype(np.int64)


class TrainBatches:
    """The training split in steps. Which rows a step takes depends on the seed and the global batch size alone."""

    def __init__(
        self,
        features: Features,
        padding: Padding,
        settings: BatchSettings,
        accumulation: int = 1,
        ranks: int = 1,
        rank: int = 0,
        seed: int = 42,
        drawing: Sequence[Processor] = (),
    ) -> None:
        self.drawing = drawing
        """The processors that draw something anew in each epoch."""
        self.features, self.padding, self.settings = features, padding, settings
        self.accumulation, self.ranks, self.rank, self.seed = accumulation, ranks, rank, seed
        self.global_batch = settings.per_device_train_batch_size * ranks * accumulation
        """Rows of a step, over all ranks."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last may be short."""
        return -(-len(self.features) // self.global_batch)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[MicroBatch]]:
        """The steps of an epoch from `first_step` on, each a list of this rank's micro batches."""
        steps = self.order(epoch)[first_step:]
        # without anything to draw, row numbers are not needed
        made = drawn(self.features, self.drawing, self.drawing and self.features.row_numbers, self.seed, epoch)
        return prefetch(self._micro_batches(made, rows) for rows in steps)

    def order(self, epoch: int) -> list[np.ndarray]:
        """The rows of each step of an epoch, for all ranks together, longest first."""
        size, random = self.global_batch, np.random.default_rng([self.seed, epoch])
        rows = random.permutation(len(self.features))
        # At least four pools, as in Transformers' group_by_length: in one, the same rows would meet in every epoch.
        pool = size * max(1, min(self.settings.shuffle_num_batch, len(rows) // (4 * size)))
        if not self.settings.group_by_length:
            pool = size
        steps = []
        for begin in range(0, len(rows), pool):
            chosen = rows[begin : begin + pool]
            chosen = chosen[np.argsort(-self.features.lengths[chosen], kind="stable")]
            steps += [chosen[at : at + size] for at in range(0, len(chosen), size)]
        return [steps[at] for at in random.permutation(len(steps))]

    def _micro_batches(self, made: Rows, rows: np.ndarray) -> list[MicroBatch]:
        # Neighbours in length share a forward pass, and in each the ranks have about as much to do.
        slots = np.array_split(rows, self.ranks * self.accumulation)
        return [
            micro_batch(made, slots[micro * self.ranks + self.rank], self.features.lengths, self.padding)
            for micro in range(self.accumulation)
        ]


def micro_batch(features: Rows, rows: np.ndarray, lengths: np.ndarray, padding: Padding) -> MicroBatch:
    """A micro batch of some rows; without rows, of the first row, which then does not count."""
    if len(rows) == 0:
        return MicroBatch({**collate(features, np.zeros(1, np.int64), padding), NO_ROWS: True}, 0, 0)
    return MicroBatch(collate(features, rows, padding), len(rows), int(lengths[rows].sum()))


class EvalBatches:
    """A split in batches of like length, longest first: the same batches for any number of ranks, dealt in turn.

    Iterates (batch, indices of its rows). Every rank gets as many batches; one without indices holds a row that does
    not count.
    """

    def __init__(
        self,
        features: Features,
        padding: Padding,
        settings: BatchSettings,
        ranks: int = 1,
        rank: int = 0,
        drawing: Sequence[Processor] = (),
    ) -> None:
        self.padding, self.ranks, self.rank = padding, ranks, rank
        self._rows = drawn(features, drawing, drawing and features.row_numbers)
        order = np.argsort(-features.lengths, kind="stable") if settings.group_by_length else np.arange(len(features))
        size = settings.per_device_eval_batch_size
        self._batches = [order[at : at + size] for at in range(0, len(order), size)]

    def __len__(self) -> int:
        """Batches of each rank."""
        return -(-len(self._batches) // self.ranks)

    def __iter__(self) -> Iterator[tuple[Batch, np.ndarray]]:
        return prefetch(self._batch(turn * self.ranks + self.rank) for turn in range(len(self)))

    def _batch(self, number: int) -> tuple[Batch, np.ndarray]:
        if number < len(self._batches):
            rows = self._batches[number]
            return collate(self._rows, rows, self.padding), rows
        return collate(self._rows, np.zeros(1, np.int64), self.padding), np.empty(0, np.int64)


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The items, made ahead by a thread, at most `depth` of them; an error in the making comes out where it is met."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            if isinstance(items, Generator):
                items.close()

    def take() -> Iterator[T]:
        thread = threading.Thread(target=make, name="batches", daemon=True)
        thread.start()
        try:
            while True:
                kind, value = ready.get()
                if kind == "error":
                    raise value
                if kind == "end":
                    return
                yield value
        finally:
            stopped.set()
            thread.join()

    return take()


def cuts(lengths: np.ndarray, most: int, overhead: int) -> list[int]:
    """Where to cut rows that are sorted by length, longest first, so that padding and passes cost the least together.

    Args:
        lengths: tokens of each row.
        most: rows of a forward pass.
        overhead: what a forward pass costs by itself, in tokens.

    Returns:
        The end of each pass.
    """
    least = np.zeros(len(lengths) + 1)
    begins = [0]
    for end in range(1, len(lengths) + 1):
        begin = np.arange(max(0, end - most), end)
        costs = least[begin] + overhead + lengths[begin] * (end - begin)
        best = int(costs.argmin())
        least[end] = costs[best]
        begins.append(int(begin[best]))
    ends = []
    end = len(lengths)
    while end:
        ends.append(end)
        end = begins[end]
    return ends[::-1]
