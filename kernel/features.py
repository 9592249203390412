"""Features of a split, made once and kept under a fingerprint of everything that decides what is in them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa

from .contracts import Field, Labels
from .errors import DataError, DeepgenError, PluginError, RunError, SceneError
from .options import InputPath
from .processing import LENGTH, ROW, Made, Processing
from .readers import chunks, shown
from .rows import Reject, RowSettings, Source, refuse, report
from .table import Table

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .scene import Scene, Split

FORMAT = 1
"""Changes with what is written, so that features of an older version are made anew."""
LABELS = "labels"


@dataclass(frozen=True)
class FeatureSettings:
    """How features are made and kept."""

    cache_dir: Annotated[str | None, InputPath] = None
    """Where features are kept for the next run; by default deepgen/features in the user's cache folder."""


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
        names = dict(zip(meta["files"], _files(processing.source), strict=True))
        self.rejects: list[Reject] = [Reject(**{**one, "file": names[one["file"]]}) for one in meta["rejects"]]
        self.bad_rows: int = len(self.rejects)
        self.truncated: dict[str, float] = {n: count / max(len(self), 1) for n, count in meta["cut"].items()}
        """Share of rows that were cut, by field."""
        self.labels: Labels | None = _labels(fields.get(LABELS), meta, processing)
        """What is known of the field `labels`."""

    def _batch(self, chunk: int) -> pa.RecordBatch:
        part, batch = self._locations[chunk]
        if part not in self._parts:
            self._parts[part] = pa.ipc.open_file(pa.memory_map(str(self.path / _part(part))))
        return self._parts[part].get_batch(batch)


@dataclass
class _Outcome:
    """What one rank has made; a JSON file beside its part, so that all ranks come to the same end."""

    chunks: list[tuple[int, int, int]]
    """(chunk, batch in the part, rows)."""
    fields: list[str] | None
    rejects: list[dict[str, Any]]
    cut: dict[str, int]
    widths: dict[str, list[int]]
    """By fixed field: [values, first row that has as many] as the first chunk had."""
    labels: list[float]
    """The least and the greatest label, for whole numbers."""
    error: list[str] | None = None
    """Kind and message."""


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
    processing = Processing(scene, split, pretrained, keep_columns)
    policy = scene.read(RowSettings).bad_rows
    digest, total = _fingerprint(processing, pretrained)
    folder = _cache(scene)
    final, work = folder / digest, folder / f"{digest}.work"
    quiet = notice if rank == 0 else lambda _: None
    with _locked(folder / f"{digest}.lock", rank):
        if rank == 0 and not _intact(final):
            shutil.rmtree(final, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        barrier()
        if not final.is_dir():
            outcome, error = _make_part(processing, work, rank, ranks, policy == "fail", total, quiet, progress)
            (work / f"{_part(rank)}.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
            barrier()
            outcomes = _outcomes(work, ranks)
            barrier()
            try:
                if error is not None:
                    raise error
                _judge(outcomes, processing)
                if rank == 0:
                    _publish(outcomes, processing.source, work, final)
            finally:
                if rank == 0:
                    shutil.rmtree(work, ignore_errors=True)
            barrier()
        features = Features(final, processing)
    refuse(features.rejects, policy)
    if rank == 0:
        report(features.rejects, policy, rejects, notice)
    return features


def _make_part(
    processing: Processing,
    work: Path,
    rank: int,
    ranks: int,
    fails: bool,
    total: int,
    notice: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> tuple[_Outcome, Exception | None]:
    """Writes this rank's share, every `ranks`-th chunk; a thread processes while this one reads and writes."""
    outcome = _Outcome([], None, [], {}, {}, [])
    writer: Any = None
    waiting: deque[Future[Made]] = deque()
    failed_here = work / f"{_part(rank)}.failed"
    shown_at = time.monotonic()

    def write(made: Made) -> None:
        nonlocal writer, shown_at
        names = [name for name in made.batch.schema.names if name in processing.fields]
        outcome.rejects += [asdict(reject) for reject in made.rejects]
        if fails and made.rejects:
            failed_here.write_text(str(made.chunk.index), encoding="utf-8")
        if not made.batch.num_rows:
            return
        if outcome.fields is None:
            outcome.fields = names
            writer = pa.ipc.new_file(str(work / _part(rank)), made.batch.schema)
        if outcome.fields != names:
            raise PluginError(f"the processors gave {', '.join(outcome.fields)} at first and {', '.join(names)} later")
        for name, count in made.cut.items():
            outcome.cut[name] = outcome.cut.get(name, 0) + count
        for name, width in made.widths.items():
            first, _ = outcome.widths.setdefault(name, [width, made.chunk.index])
            if width != first:
                raise DataError(_odd_width(made.chunk.file, made.chunk.first_line, name, width, first))
        if LABELS in names and pa.types.is_int64(made.batch.column(LABELS).type):
            labels = made.batch.column(LABELS).to_numpy()
            outcome.labels = [
                float(min([labels.min(), *outcome.labels])),
                float(max([labels.max(), *outcome.labels])),
            ]
        outcome.chunks.append((made.chunk.index, len(outcome.chunks), made.batch.num_rows))
        writer.write_batch(made.batch)
        if time.monotonic() - shown_at > 0.1:
            shown_at = time.monotonic()
            progress(min(made.chunk.first_row + made.chunk.rows, total or 2**62), total)

    error: Exception | None = None
    try:
        with ThreadPoolExecutor(1, "processors") as pool:
            try:
                for chunk in chunks(processing.source, notice):
                    if fails and chunk.index > _first_failure(work):
                        break
                    if chunk.index % ranks == rank:
                        waiting.append(pool.submit(processing.run, chunk))
                    while len(waiting) > 2:
                        write(waiting.popleft().result())
                while waiting:
                    write(waiting.popleft().result())
            finally:
                pool.shutdown(cancel_futures=True)
        if writer is not None:
            writer.close()
        progress(total, total)
    except Exception as caught:  # the other ranks have to learn of it before it is raised
        error = caught
        outcome.error = [type(caught).__name__, str(caught)]
    return outcome, error


def _first_failure(work: Path) -> float:
    """The first chunk in which some rank has met a bad row."""
    found = [file.read_text(encoding="utf-8") for file in work.glob("*.failed")]
    return min((int(text) for text in found if text), default=float("inf"))


def _outcomes(work: Path, ranks: int) -> list[_Outcome]:
    found = []
    for rank in range(ranks):
        file = work / f"{_part(rank)}.json"
        if not file.is_file():
            raise RunError(f"rank {rank} left nothing in {work}; cache_dir has to be a folder that all ranks share")
        found.append(_Outcome(**json.loads(file.read_text(encoding="utf-8"))))
    return found


def _judge(outcomes: Sequence[_Outcome], processing: Processing) -> None:
    """Ends all ranks alike when one has failed, and checks what only all of them together show."""
    kinds: dict[str, type[DeepgenError]] = {kind.__name__: kind for kind in (DataError, PluginError, SceneError)}
    for rank, outcome in enumerate(outcomes):
        if outcome.error is not None:
            kind, message = outcome.error
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


def _publish(outcomes: Sequence[_Outcome], source: Source, work: Path, final: Path) -> None:
    """Joins the shares in row order and gives the folder its name."""
    order = sorted((c, part, batch, rows) for part, o in enumerate(outcomes) for c, batch, rows in o.chunks)
    files = {part: work / _part(part) for _, part, _, _ in order}
    readers = {part: pa.ipc.open_file(pa.memory_map(str(file))) for part, file in files.items()}
    for name, column, dtype in (("lengths", LENGTH, np.int32), ("rows", ROW, np.int64)):
        pieces = [readers[part].get_batch(batch).column(column).to_numpy() for _, part, batch, _ in order]
        np.save(work / f"{name}.npy", np.concatenate(pieces) if pieces else np.empty(0, dtype))
    fields = next((outcome.fields for outcome in outcomes if outcome.fields is not None), [])
    labels = [value for outcome in outcomes for value in outcome.labels]
    meta = {
        "files": _files(source),
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


def _labels(field: Field | None, meta: dict[str, Any], processing: Processing) -> Labels | None:
    if field is None:
        return None
    names = processing.class_names[field.name]
    if field.shape == "fixed":
        return Labels(field, meta["widths"][field.name], names)
    if field.dtype != "int64" or field.shape != "scalar":
        return Labels(field, 1, names)
    least, most = meta["labels"]
    if least < 0 and least != -100:  # -100 carries no loss, in every Hugging Face model
        raise DataError(f"{processing.source.where}: the least label is {least:g}; classes are numbered from 0")
    return Labels(field, int(most) + 1, names)


def _fingerprint(processing: Processing, pretrained: Pretrained | None) -> tuple[str, int]:
    """The name under which the features are kept, and the rows of the input (0: not known before it is read)."""
    import pyarrow.parquet as pq
    from xxhash import xxh3_128

    digest = xxh3_128(f"features {FORMAT}".encode())
    lines, known = 0, processing.source.hub is None
    for text in (*processing.identity(), pretrained.fingerprint if pretrained is not None else ""):
        digest.update(f"{len(text)} ".encode() + text.encode())
    if processing.source.hub is not None:
        import datasets

        name, part = processing.source.hub
        digest.update(datasets.load_dataset(name, split=part)._fingerprint.encode())
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
    given = scene.read(FeatureSettings).cache_dir
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else home / "deepgen" / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SceneError(
            f"{scene.where('cache_dir')} = '{folder}': {error.strerror}; give a folder to write to"
        ) from None
    return folder


@contextmanager
def _locked(file: Path, rank: int) -> Iterator[None]:
    """Keeps other runs from making the same features meanwhile; rank 0 speaks for all ranks of a run."""
    if rank != 0:
        yield
        return
    with file.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _intact(path: Path) -> bool:
    """The features are there and whole."""
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        return all((path / name).stat().st_size == size for name, size in meta["sizes"].items())
    except (OSError, ValueError, KeyError):
        return False


def _files(source: Source) -> list[str]:
    return ["hub:" + ":".join(source.hub)] if source.hub else [shown(file) for file in source.files]


def _part(rank: int) -> str:
    return f"part-{rank:05d}.arrow"
