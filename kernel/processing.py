"""Runs the processors of a split over chunks of rows: columns of text in, one table of features out."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from . import registry
from .contracts import BadRows, Field, Processor
from .drawing import draws
from .errors import DeepgenError, PluginError, PluginFailed, SceneError, did_you_mean
from .plugin_code import sources
from .readers import parse
from .rows import Block, Chunk, Reject, Source, source

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .scene import Scene, Split

ROW, LENGTH, KEPT = "#row", "#length", "#column:"
"""Columns of the table beside the fields: the row number, the length for bucketing, and columns kept as text."""

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass
class Made:
    """What the processors made of a chunk."""

    chunk: Chunk
    batch: pa.RecordBatch
    rejects: list[Reject]
    cut: dict[str, int] = field(default_factory=dict)
    """Rows that were cut, by field."""
    widths: dict[str, int] = field(default_factory=dict)
    """Values in a row, by fixed field."""


class Processing:
    """The processors of a split, bound to their columns."""

    def __init__(
        self,
        scene: Scene,
        split: Split,
        pretrained: Pretrained | None,
        keep_columns: Sequence[str] = (),
        given: Source | None = None,
    ) -> None:
        """Binds them to the columns of the split's files, or of another input that is given."""
        self.source: Source = given or source(scene, split)
        self.processors: list[Processor] = scene.processors(split, pretrained)
        self.items = scene.items(split)
        self.keep_columns = tuple(keep_columns)
        self.drawing: tuple[Processor, ...] = tuple(filter(draws, self.processors)) if split != "predict" else ()
        """The processors that draw something when rows become a batch; in prediction nothing is drawn."""
        self.fields: dict[str, Field] = {}
        """Every field that is declared; a processor may leave some out."""
        self.class_names: dict[str, tuple[str, ...]] = {}
        for processor, item in zip(self.processors, self.items, strict=True):
            with registry.asking(processor):
                declared = {made.name: (made, processor.class_names()) for made in processor.fields()}
            for name, (made, class_names) in declared.items():
                if name in self.fields:
                    where = scene.where(scene.header_setting(split, "model_header"))
                    raise SceneError(f"{where}: '{item.text}' and an item before it both give the field '{name}'")
                self.fields[name], self.class_names[name] = made, class_names
        for name in self.keep_columns:
            if name not in self.source.columns:
                near = did_you_mean(name, self.source.columns) or f"; it has {', '.join(self.source.columns)}"
                raise SceneError(f"{scene.where('result_header')}: {self.source.header} has no column '{name}'{near}")

    def run(self, chunk: Chunk) -> Made:
        """The features of every good row of a chunk.

        Raises:
            PluginFailed: a processor failed. PluginError: one did not give what it declares.
        """
        return self.make(chunk, parse(self.source, chunk))

    def make(self, chunk: Chunk, block: Block) -> Made:
        """The features of parsed rows. A row that one processor cannot read is left out for all."""
        made: list[Mapping[str, Any] | None] = [None] * len(self.processors)
        rejects = list(block.rejects)
        while None in made and len(block.rows):
            bad: dict[int, Reject] = {}
            for place, processor in enumerate(self.processors):
                if made[place] is not None:
                    continue
                columns = [block.columns[self.source.columns.index(name)] for name in processor.inputs]
                try:
                    made[place] = processor.process(columns)
                except BadRows as error:
                    for row in error.rows:
                        if not 0 <= row.row < len(block.rows):
                            words = f"named row {row.row} as a bad one, of rows 0 to {len(block.rows) - 1}"
                            raise PluginError(f"processor '{processor.name}' {words}") from error
                        reason = row.reason or "cannot be read"
                        bad.setdefault(row.row, block.reject(row.row, row.column, row.value, reason))
                    if not error.rows:
                        raise PluginError(f"processor '{processor.name}' raised BadRows without a row") from error
                except DeepgenError:
                    raise
                except (Exception, SystemExit) as error:
                    where = f"{block.file}:{block.lines[0]} to {block.lines[-1]}" if len(block.lines) else block.file
                    message = f"processor '{processor.name}' failed on {where}: {type(error).__name__}: {error}"
                    raise PluginFailed(message) from error
            if bad:
                mask = np.ones(len(block.rows), bool)
                mask[list(bad)] = False
                keep = pa.array(mask)
                rejects.extend(bad.values())
                block = block.keep(keep)
                made = [
                    {n: _whole(v).filter(keep) for n, v in one.items()} if one is not None else None for one in made
                ]
        if not len(block.rows):  # a processor is never given an empty batch
            made = [{} for _ in made]
        return self._table(chunk, block, [one for one in made if one is not None], rejects)

    def _table(self, chunk: Chunk, block: Block, made: Sequence[Mapping[str, Any]], rejects: list[Reject]) -> Made:
        rows = len(block.rows)
        table: dict[str, pa.Array] = {}
        cut: dict[str, int] = {}
        widths: dict[str, int] = {}
        lengths = np.zeros(rows, np.int64)
        for processor, values in zip(self.processors, made, strict=True):
            declared = {one.name: one for one in processor.fields()}
            cut.update(processor.cut)
            processor.cut.clear()
            for name, given in values.items():
                array = _whole(given)
                if len(array) != rows:
                    raise PluginError(
                        f"processor '{processor.name}' gave {len(array)} values of '{name}' for {rows} rows"
                    )
                if name not in declared:
                    near = did_you_mean(name, declared) or f"; it declares {', '.join(declared)}"
                    raise PluginError(f"processor '{processor.name}' gave '{name}', which it does not declare{near}")
                table[name] = _stored(processor, declared[name], array)
            if rows and declared and (not values or (processor.output in declared and processor.output not in values)):
                absent = processor.output if values else ", ".join(declared)
                raise PluginError(f"processor '{processor.name}' did not give '{absent}', which it declares")
        fixed = [
            (name, np.diff(table[name].offsets.to_numpy())) for name in table if self.fields[name].shape == "fixed"
        ]
        odd: dict[int, Reject] = {}
        for name, counts in fixed:
            if rows:
                widths[name] = int(np.bincount(counts).argmax())
                for position in np.flatnonzero(counts != widths[name]):
                    value = ",".join(str(part) for part in table[name][int(position)].as_py())
                    reason = f"has {counts[position]} values where other rows have {widths[name]}"
                    odd.setdefault(int(position), block.reject(int(position), name, value, reason))
        if odd:
            mask = np.ones(rows, bool)
            mask[list(odd)] = False
            rejects.extend(odd.values())
            block, rows = block.keep(pa.array(mask)), int(mask.sum())
            table = {name: array.filter(pa.array(mask)) for name, array in table.items()}
            lengths = lengths[mask]
        for name, array in table.items():
            if self.fields[name].length:
                lengths += np.diff(array.offsets.to_numpy())
        arrays = {name: table[name] for name in self.fields if name in table}
        arrays[ROW] = pa.array(block.rows, pa.int64())
        arrays[LENGTH] = pa.array(lengths.astype(np.int32))
        for name in self.keep_columns:
            arrays[KEPT + name] = block.columns[self.source.columns.index(name)]
        rejects.sort(key=lambda reject: reject.row)
        return Made(chunk, pa.RecordBatch.from_pydict(arrays), rejects, cut, widths)

    def identity(self) -> Iterator[str]:
        """Everything but the data and the tokenizer that decides what the features are."""
        yield repr((self.source.columns, self.source.formats, self.keep_columns))
        for name in ("columnar", "encoding", "making", "processing", "readers"):
            yield Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        for processor, item in zip(self.processors, self.items, strict=True):
            options = {one.name: vars(processor)[one.name] for one in dataclasses.fields(processor)}  # type: ignore[arg-type]
            yield repr((item.text, processor.name, sorted(options.items()), processor.fields()))
            yield from sources(type(processor))


class PerThread:
    """Processors for each thread of its own: a plugin may keep something between two calls."""

    def __init__(self, make: Callable[[], Processing]) -> None:
        self._make = make
        self._local = threading.local()

    def __call__(self) -> Processing:
        """The processors of the thread that asks."""
        if not hasattr(self._local, "processing"):
            self._local.processing = self._make()
        found: Processing = self._local.processing
        return found


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


def _whole(values: Any) -> Any:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _stored(processor: Processor, declared: Field, array: Any) -> Any:
    """The array in the type that it is kept in; lists of whole numbers take 32 bits a number."""
    number = {"int64": pa.int64(), "float32": pa.float32(), "string": pa.string()}[declared.dtype]
    if declared.shape != "scalar":
        number = pa.list_(pa.int32() if declared.dtype == "int64" else number)
    if array.null_count:
        raise PluginError(f"processor '{processor.name}' gave rows without a value of '{declared.name}'")
    try:
        return array if array.type == number else array.cast(number)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PluginError(f"processor '{processor.name}': '{declared.name}' is no {number}: {error}") from error
