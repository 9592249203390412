"""The input of a split as a stream: raw rows in order, features of any of them, and what is known ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .contracts import Field, Labels
from .errors import DataError
from .processing import LENGTH, ROW, PerThread, Processing
from .readers import chunks, cut, parse
from .rows import BadRowPolicy, Block, Chunk, Reject, RowSettings, refuse, report
from .table import Table

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .scene import Scene, Split


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

    digest: str = ""
    """Nothing is kept, so nothing has a name."""
    truncated: dict[str, float] = field(default_factory=dict)
    """Not known ahead."""

    def __post_init__(self) -> None:
        self.policy: BadRowPolicy = self.scene.read(RowSettings).bad_rows
        self._processing = PerThread(lambda: Processing(self.scene, self.split, self.pretrained, self.keep_columns))
        self.source, self.drawing = self._processing().source, self._processing().drawing

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

    def __len__(self) -> int:
        return self.rows

    @property
    def fields(self) -> dict[str, Field]:
        """The fields that there are."""
        return self.example.table.fields

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


def _join(blocks: Sequence[Block]) -> Block:
    columns: list[Any] = [pa.concat_arrays(parts) for parts in zip(*(block.columns for block in blocks), strict=True)]
    rejects = [reject for block in blocks for reject in block.rejects]
    rows, lines = (np.concatenate([vars(block)[name] for block in blocks]) for name in ("rows", "lines"))
    return Block(columns, rows, lines, blocks[0].file, rejects)
