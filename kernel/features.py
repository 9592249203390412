"""Features of a split, made once and kept under a fingerprint of everything that decides what is in them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa

from .caches import CacheSettings
from .contracts import Field, Labels
from .errors import DataError, SceneError
from .making import LABELS, Part, file_names, judge, outcomes_of, part_file, publish
from .options import Range
from .processing import PerThread, Processing
from .rows import Reject, RowSettings, refuse, report, shown
from .table import Table

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .scene import Scene, Split


@dataclass(frozen=True)
class FeatureSettings:
    """How features are made and kept."""

    preprocessing_num_workers: Annotated[int, Range(1)] = 2
    """Threads of a rank that run processors; a tokenizer uses all cores of itself, a second thread keeps it busy."""


class Features(Table):
    """The features of every good row of a split, in row order, memory-mapped."""

    def __init__(self, path: Path, processing: Processing) -> None:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        self.path = path
        self.digest: str = path.name
        self._parts: dict[int, Any] = {}
        self._locations: list[tuple[int, int]] = [(part, batch) for part, batch, _ in meta["chunks"]]
        fields = {name: processing.fields[name] for name in meta["fields"]}
        super().__init__(fields, [rows for _, _, rows in meta["chunks"]], self._batch)
        self.lengths: np.ndarray = np.load(path / "lengths.npy", mmap_mode="r")
        """[rows] int32: tokens of each row."""
        self.row_numbers: np.ndarray = np.load(path / "rows.npy", mmap_mode="r")
        """[rows] int64: the row's number in the input, from 0."""
        names = dict(zip(meta["files"], file_names(processing.source), strict=True))
        self.expected: np.ndarray | None = self.row_numbers
        """The row numbers that a result file has to hold; a stream does not know them ahead."""
        self.rejects: list[Reject] = [Reject(**{**one, "file": names[one["file"]]}) for one in meta["rejects"]]
        self.bad_rows: int = len(self.rejects)
        self.truncated: dict[str, float] = {n: count / max(len(self), 1) for n, count in meta["cut"].items()}
        """Share of rows that were cut, by field."""
        self.drawing = processing.drawing
        self._labels = _labels(fields.get(LABELS), meta, processing)

    @cached_property
    def labels(self) -> Labels | None:
        """What is known of the field `labels`; their means come from a pass over that column alone."""
        known = self._labels
        if known is None or known.field.shape == "ragged" or known.field.dtype == "string":
            return known
        total = np.zeros(known.size)
        for chunk in range(len(self._locations)):
            column = self._batch(chunk).column(LABELS)
            if known.field.shape == "fixed":
                total += column.flatten().to_numpy().reshape(-1, known.size).sum(axis=0, dtype=np.float64)
            elif known.field.dtype == "int64":
                values = column.to_numpy()
                total += np.bincount(values[values >= 0], minlength=known.size)
            else:
                total += column.to_numpy().sum(dtype=np.float64)
        rows = total.sum() if known.field.dtype == "int64" else len(self)
        return replace(known, means=tuple((total / rows).tolist()) if rows else ())

    def _batch(self, chunk: int) -> pa.RecordBatch:
        part, batch = self._locations[chunk]
        if part not in self._parts:
            self._parts[part] = pa.ipc.open_file(pa.memory_map(str(self.path / part_file(part))))
        return self._parts[part].get_batch(batch)


def prepare(
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
) -> Features:
    """The features of a split: from the cache, or made now, each rank a share, and kept.

    What comes out does not depend on the number of ranks. All ranks must see the same cache folder.

    Args:
        keep_columns: columns whose text is kept beside the features, for the result file.
        rejects: the file for bad rows under `bad_rows: quarantine`.
        rank, ranks, barrier: the ranks that call this together, and what makes them wait for each other.
        notice: told what a person should know; rank 0 alone.
        progress: (rows done, rows in all; 0 when that is not known), now and then.

    Raises:
        DataError: a file cannot be read, or a bad row under `bad_rows: fail`; on every rank alike.
        PluginError: a processor failed.
    """
    processors = PerThread(lambda: Processing(scene, split, pretrained, keep_columns))
    processing = processors()
    policy = scene.read(RowSettings).bad_rows
    digest, total = _fingerprint(processing, pretrained)
    settings = scene.read(FeatureSettings)
    folder = _cache(scene)
    final, work = folder / digest, folder / f"{digest}.work"
    quiet = notice if rank == 0 else lambda _: None
    with _locked(folder / f"{digest}.lock", rank, notice):
        if rank == 0 and not _intact(final):
            shutil.rmtree(final, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        barrier()
        if not final.is_dir():
            part = Part(processors, work, rank, ranks, policy == "fail", total, quiet, progress)
            outcome, error = part.make(settings.preprocessing_num_workers)
            (work / f"{part_file(rank)}.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
            barrier()
            outcomes = outcomes_of(work, ranks)
            barrier()
            try:
                if error is not None:
                    raise error
                judge(outcomes, processing)
                if rank == 0:
                    publish(outcomes, processing.source, work, final)
            finally:
                if rank == 0:
                    shutil.rmtree(work, ignore_errors=True)
            barrier()
        features = Features(final, processing)
    refuse(features.rejects, policy)
    if rank == 0:
        report(features.rejects, policy, rejects, notice)
    return features


def _labels(found: Field | None, meta: dict[str, Any], processing: Processing) -> Labels | None:
    if found is None:
        return None
    names = processing.class_names[found.name]
    if found.shape == "fixed":
        return Labels(found, meta["widths"][found.name], names)
    if found.dtype != "int64" or found.shape != "scalar":
        return Labels(found, 1, names)
    least, most = meta["labels"]
    if least < 0 and least != -100:  # -100 carries no loss, in every Hugging Face model
        raise DataError(f"{processing.source.where}: the least label is {least:g}; classes are numbered from 0")
    return Labels(found, int(most) + 1, names)


def _fingerprint(processing: Processing, pretrained: Pretrained | None) -> tuple[str, int]:
    """The name under which the features are kept, and the rows of the input (0: not known before it is read)."""
    import pyarrow.parquet as pq
    from xxhash import xxh3_128

    digest = xxh3_128()
    lines, known = 0, processing.source.hub is None
    for text in (*processing.identity(), pretrained.fingerprint if pretrained is not None else ""):
        digest.update(f"{len(text)} ".encode() + text.encode())
    if processing.source.hub is not None:
        import datasets

        name, part = processing.source.hub
        cache = processing.source.cache
        digest.update(datasets.load_dataset(name, split=part, cache_dir=cache)._fingerprint.encode())
    for file, kind in zip(processing.source.files, processing.source.formats, strict=True):
        try:
            with file.open("rb") as stream:
                digest.update(f"{os.fstat(stream.fileno()).st_size} ".encode())
                while block := stream.read(1 << 22):
                    digest.update(block)
                    lines += block.count(b"\n") if kind in ("tsv", "jsonl", "csv") else 0
            if kind == "parquet":
                lines += pq.read_metadata(file).num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{shown(file)}: cannot be read: {error}") from error
        known = known and file.suffix.lower() != ".gz"
    return digest.hexdigest(), lines if known else 0


def _cache(scene: Scene) -> Path:
    try:
        return scene.read(CacheSettings).made("features")
    except SceneError as error:
        raise scene.placed(error) from None


@contextmanager
def _locked(file: Path, rank: int, notice: Callable[[str], None]) -> Iterator[None]:
    """Keeps other runs from making the same features meanwhile; rank 0 speaks for all ranks of a run."""
    if rank != 0:
        yield
        return
    with file.open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notice("another run makes the same features now; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _intact(path: Path) -> bool:
    """The features are there and whole."""
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        return all((path / name).stat().st_size == size for name, size in meta["sizes"].items())
    except (OSError, ValueError, KeyError):
        return False
