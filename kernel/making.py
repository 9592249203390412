"""The making of features: each rank writes a share of the chunks, and rank 0 joins the shares in row order."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import DataError, DeepgenError, PluginError, PluginFailed, RunError, SceneError
from .processing import LENGTH, ROW, Made, PerThread, Processing, in_order
from .readers import chunks
from .rows import Chunk, Source, shown

LABELS = "labels"
"""The field that tells how many classes there are."""


@dataclass
class Outcome:
    """What one rank has made; a JSON file beside its part, so that all ranks come to the same end."""

    chunks: list[tuple[int, int, int]] = field(default_factory=list)
    """(chunk, batch in the part, rows)."""
    fields: list[str] | None = None
    rejects: list[dict[str, Any]] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)
    widths: dict[str, list[int]] = field(default_factory=dict)
    """By fixed field: [values a row, the first chunk that has as many]."""
    labels: list[float] = field(default_factory=list)
    """The least and the greatest label, for whole numbers."""
    error: list[str] | None = None
    """Kind and message."""


@dataclass
class Part:
    """One rank's share: every `ranks`-th chunk, written by this thread while others run the processors."""

    processors: PerThread
    work: Path
    rank: int
    ranks: int
    fails: bool
    """The first bad row ends the run."""
    total: int
    notice: Callable[[str], None]
    progress: Callable[[int, int], None]
    outcome: Outcome = field(default_factory=Outcome)
    writer: Any = None
    shown_at: float = field(default_factory=time.monotonic)

    def make(self, workers: int) -> tuple[Outcome, Exception | None]:
        """Writes the share, and says what came of it."""
        try:
            for made in in_order(lambda chunk: self.processors().run(chunk), self._chunks(), workers):
                self._write(made)
            if self.writer is not None:
                self.writer.close()
            self.progress(self.total, self.total)
        except Exception as error:  # the other ranks have to learn of it before it is raised
            self.outcome.error = [type(error).__name__, str(error)]
            if isinstance(error, PluginError) and error.__cause__ is not None:
                traceback.print_exception(error.__cause__)  # where in the plugin it was: into the log of the rank
            if isinstance(error, PluginFailed):
                error.rank = self.rank
            return self.outcome, error
        return self.outcome, None

    def _chunks(self) -> Iterator[Chunk]:
        for chunk in chunks(self.processors().source, self.notice):
            if self.fails and chunk.index > _first_failure(self.work):
                return
            if chunk.index % self.ranks == self.rank:
                yield chunk

    def _write(self, made: Made) -> None:
        outcome, batch = self.outcome, made.batch
        outcome.rejects += [asdict(reject) for reject in made.rejects]
        if self.fails and made.rejects:
            (self.work / f"{part_file(self.rank)}.failed").write_text(str(made.chunk.index), encoding="utf-8")
        if not batch.num_rows:
            return
        names = [name for name in batch.schema.names if name in self.processors().fields]
        if outcome.fields is None:
            outcome.fields = names
            self.writer = pa.ipc.new_file(str(self.work / part_file(self.rank)), batch.schema)
        if outcome.fields != names:
            raise PluginError(f"the processors gave {', '.join(outcome.fields)} at first and {', '.join(names)} later")
        for name, count in made.cut.items():
            outcome.cut[name] = outcome.cut.get(name, 0) + count
        for name, width in made.widths.items():
            first, _ = outcome.widths.setdefault(name, [width, made.chunk.index])
            if width != first:
                raise DataError(_odd_width(made.chunk.file, made.chunk.first_line, name, width, first))
        if LABELS in names and pa.types.is_int64(batch.column(LABELS).type):
            labels = batch.column(LABELS).to_numpy()
            outcome.labels = [
                float(min([labels.min(), *outcome.labels])),
                float(max([labels.max(), *outcome.labels])),
            ]
        outcome.chunks.append((made.chunk.index, len(outcome.chunks), batch.num_rows))
        self.writer.write_batch(batch)
        if time.monotonic() - self.shown_at > 0.1:
            self.shown_at = time.monotonic()
            self.progress(min(made.chunk.first_row + made.chunk.rows, self.total or 2**62), self.total)


def _first_failure(work: Path) -> float:
    """The first chunk in which some rank has met a bad row."""
    found = [file.read_text(encoding="utf-8") for file in work.glob("*.failed")]
    return min((int(text) for text in found if text), default=float("inf"))


def outcomes_of(work: Path, ranks: int) -> list[Outcome]:
    """What every rank has left.

    Raises:
        RunError: a rank's file is not to be seen from here.
    """
    found = []
    for rank in range(ranks):
        file = work / f"{part_file(rank)}.json"
        if not file.is_file():
            raise RunError(f"rank {rank} left nothing in {work}; cache_dir has to be a folder that all ranks share")
        found.append(Outcome(**json.loads(file.read_text(encoding="utf-8"))))
    return found


def judge(outcomes: Sequence[Outcome], processing: Processing) -> None:
    """Ends all ranks alike when one has failed, and checks what only all of them together show.

    Raises:
        DataError, PluginError, SceneError, RunError: what the first rank to fail has met, or shares that do not fit.
    """
    known: tuple[type[DeepgenError], ...] = DataError, PluginError, RunError, SceneError
    kinds = {kind.__name__: kind for kind in known}
    for rank, outcome in enumerate(outcomes):
        if outcome.error is not None:
            kind, message = outcome.error
            if kind == PluginFailed.__name__:
                raise PluginFailed(message, rank)
            raise kinds[kind](message) if kind in kinds else RunError(f"features, rank {rank}: {kind}: {message}")
    emitted = [outcome.fields for outcome in outcomes if outcome.fields is not None]
    for names in emitted:
        if names != emitted[0]:
            raise PluginError(f"the processors gave {', '.join(emitted[0])} and {', '.join(names)}")
    for name in processing.fields:
        widths = sorted((o.widths[name][1], o.widths[name][0]) for o in outcomes if name in o.widths)
        for index, width in widths:
            if width != widths[0][1]:
                chunk = next(chunk for chunk in chunks(processing.source) if chunk.index == index)
                raise DataError(_odd_width(chunk.file, chunk.first_line, name, width, widths[0][1]))


def _odd_width(file: str, line: int, name: str, width: int, first: int) -> str:
    return f"{file}:{line}: from here on, '{name}' has {width} values a row where it had {first} before"


def publish(outcomes: Sequence[Outcome], source: Source, work: Path, final: Path) -> None:
    """Joins the shares in row order and gives the folder its name."""
    order = sorted((c, part, batch, rows) for part, o in enumerate(outcomes) for c, batch, rows in o.chunks)
    files = {part: work / part_file(part) for _, part, _, _ in order}
    readers = {part: pa.ipc.open_file(pa.memory_map(str(file))) for part, file in files.items()}
    for name, column, dtype in (("lengths", LENGTH, np.int32), ("rows", ROW, np.int64)):
        pieces = [readers[part].get_batch(batch).column(column).to_numpy() for _, part, batch, _ in order]
        np.save(work / f"{name}.npy", np.concatenate(pieces) if pieces else np.empty(0, dtype))
    fields = next((outcome.fields for outcome in outcomes if outcome.fields is not None), [])
    labels = [value for outcome in outcomes for value in outcome.labels]
    meta = {
        "files": file_names(source),
        "fields": fields,
        "chunks": [(part, batch, rows) for _, part, batch, rows in order],
        "sizes": {file.name: file.stat().st_size for file in files.values()},
        "rejects": sorted((one for o in outcomes for one in o.rejects), key=lambda one: int(one["row"])),
        "cut": {n: sum(o.cut.get(n, 0) for o in outcomes) for n in sorted({n for o in outcomes for n in o.cut})},
        "widths": {name: width for o in outcomes for name, (width, _) in o.widths.items()},
        "labels": [min(labels), max(labels)] if labels else [],
    }
    (work / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    for leftover in [*work.glob("*.arrow.json"), *work.glob("*.failed")]:
        leftover.unlink()
    work.rename(final)


def file_names(source: Source) -> list[str]:
    """The inputs by the names that messages give them."""
    return ["hub:" + ":".join(source.hub)] if source.hub else [shown(file) for file in source.files]


def part_file(rank: int) -> str:
    """The file of a rank's share."""
    return f"part-{rank:05d}.arrow"
