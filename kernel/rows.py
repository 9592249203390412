"""Where the rows of a split come from: files, a folder, a glob or a hub data set, and what is done with bad rows."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa

from .caches import CacheSettings
from .errors import DataError, SceneError
from .options import InputPath
from .scene import Scene, Split

Format = Literal["tsv", "csv", "jsonl", "parquet", "hub"]
BadRowPolicy = Literal["fail", "skip", "quarantine"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_HUB_SPLITS = {"train": "train", "eval": "validation", "predict": "test"}


@dataclass(frozen=True)
class RowSettings:
    """What is read, and how bad rows are met."""

    train_dir: Annotated[str | None, InputPath] = None
    """Rows to train on: a file, a folder, a glob, or `hub:NAME[:SPLIT]`. UTF-8; `.gz` files are unpacked."""
    eval_dir: Annotated[str | None, InputPath] = None
    """Rows to evaluate on."""
    predict_dir: Annotated[str | None, InputPath] = None
    """Rows to predict."""
    file_format: Literal["auto", "tsv", "csv", "jsonl", "parquet"] = "auto"
    """Format of the files. auto: by the end of the name (.csv, .jsonl, .parquet), and TSV otherwise. A TSV file has no
    header line and no quoting; in the other formats the columns are found by name."""
    bad_rows: BadRowPolicy = "fail"
    """A row that cannot be read: fail stops the run and names file, line, column and value; skip leaves it out and
    counts it; quarantine also writes it to rejects.tsv in the run folder."""


@dataclass(frozen=True)
class Source:
    """The input of one split."""

    where: str
    """The setting that named it, for messages."""
    header: str
    """The setting that named its columns, for messages."""
    columns: tuple[str, ...]
    files: tuple[Path, ...]
    formats: tuple[Format, ...]
    """One a file."""
    hub: tuple[str, str] | None = None
    """(data set, split) of the hub, in place of files."""
    cache: str | None = None
    """Where the hub's data sets are kept; None: in Hugging Face's own folder."""


@dataclass(frozen=True)
class Chunk:
    """A run of whole rows of one file, not parsed yet. Chunks are the same whoever reads them."""

    index: int
    """Its place in the whole input."""
    file: str
    format: Format
    first_row: int
    """Number of its first row in the whole input, from 0."""
    first_line: int
    """Number of its first line in the file, from 1 (in Parquet and hub data sets: of its first row)."""
    rows: int
    payload: Any
    """TSV, JSONL: bytes that end in a line feed; CSV: a list of (line, fields or a reason); else a record batch."""

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each line of the bytes ends."""
        return np.flatnonzero(np.frombuffer(self.payload, np.uint8) == 10) + 1


@dataclass(frozen=True)
class Reject:
    """A row that cannot be read."""

    row: int
    file: str
    line: int
    column: str
    """Empty when the row as a whole is at fault."""
    value: str
    reason: str
    text: str
    """The whole row."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"

    @property
    def problem(self) -> str:
        """What is wrong with it, without its place."""
        value = self.value if len(self.value) <= 80 else self.value[:79] + "…"
        return (f"{self.column} = '{value}' " if self.column else "") + self.reason

    def tsv(self) -> str:
        """A line of rejects.tsv: file, line, column, value, reason, and the row as it stood."""
        front = (self.file, str(self.line), self.column, self.value, self.reason)
        return (
            "\t".join([*(_escape(part) for part in front), self.text.replace("\n", "\\n").replace("\r", "\\r")]) + "\n"
        )


@dataclass(frozen=True)
class Block:
    """Parsed rows: `columns[j][i]` is the text of column j in the i-th row."""

    columns: list[pa.Array]
    rows: np.ndarray
    """[rows] int64: their numbers in the whole input."""
    lines: np.ndarray
    """[rows] int64: their lines in the file."""
    file: str
    rejects: list[Reject]

    def reject(self, position: int, column: str, value: str, reason: str) -> Reject:
        """The record of a row that parsed well but cannot be used."""
        text = "\t".join(_escape(str(values[position])) for values in self.columns)
        return Reject(int(self.rows[position]), self.file, int(self.lines[position]), column, value, reason, text)

    def of(self, columns: Sequence[str], chosen: Sequence[str]) -> Block:
        """Only some of the columns, which are called `columns`."""
        return replace(self, columns=[self.columns[columns.index(name)] for name in chosen])

    def keep(self, mask: pa.Array) -> Block:
        """Only the rows that the mask names."""
        chosen = mask.to_numpy(zero_copy_only=False)
        columns = [values.filter(mask) for values in self.columns]
        return Block(columns, self.rows[chosen], self.lines[chosen], self.file, self.rejects)


def source(scene: Scene, split: Split) -> Source:
    """The input of a split.

    Raises:
        SceneError: the split's input is not set.
        DataError: it names nothing that can be read.
    """
    settings = scene.read(RowSettings)
    name = f"{split}_dir"
    given = {"train": settings.train_dir, "eval": settings.eval_dir, "predict": settings.predict_dir}[split]
    if not given:
        raise SceneError(f"{name} is not set; give a file, a folder or a glob")
    where, columns = scene.where(name), scene.columns(split)
    header = scene.header_setting(split, "header")
    if given.startswith("hub:"):
        dataset, _, part = given.removeprefix("hub:").partition(":")
        cache = scene.read(CacheSettings).downloads("datasets")
        return Source(where, header, columns, (), (), (dataset, part or _HUB_SPLITS[split]), cache)
    files = tuple(find_files(given, where))
    chosen: Format | None = None if settings.file_format == "auto" else settings.file_format
    return Source(where, header, columns, files, tuple(chosen or _format(file) for file in files))


def find_files(given: str, where: str) -> list[Path]:
    """The files that a path, a folder or a glob names, sorted; hidden ones and sub-folders are left out.

    Raises:
        DataError: there is none.
    """
    path = Path(given)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        if not files:
            raise DataError(f"{where} = '{given}' is a folder without files")
        return files
    if path.is_file():
        return [path]
    if glob.has_magic(given):
        files = sorted(Path(file) for file in glob.glob(given, recursive=True) if Path(file).is_file())
        if not files:
            raise DataError(f"{where} = '{given}' matches no file")
        return files
    raise DataError(f"{where} = '{given}': no such file or folder")


def texts(given: Source, columns: Sequence[str]) -> Iterator[str]:
    """The texts of some columns; rows that cannot be read are left out."""
    from .readers import chunks, parse

    places = [given.columns.index(name) for name in columns]
    for chunk in chunks(given):
        block = parse(given, chunk)
        for place in places:
            yield from block.columns[place].to_pylist()


def refuse(rejects: Iterable[Reject], policy: BadRowPolicy) -> None:
    """Ends the run at the first bad row where the policy is `fail`.

    Raises:
        DataError: naming file, line, column and value.
    """
    first = min(rejects, key=lambda reject: reject.row, default=None)
    if first is not None and policy == "fail":
        raise DataError(f"{first}; mend it, or go on without such rows: bad_rows skip or quarantine")


def report(rejects: Sequence[Reject], policy: BadRowPolicy, file: Path | None, notice: Callable[[str], None]) -> None:
    """Counts the bad rows that were left out, and adds them to the reject file where the policy is `quarantine`."""
    if not rejects:
        return
    written = ""
    if policy == "quarantine" and file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        known = set(file.read_text(encoding="utf-8").split("\n")) if file.exists() else set()
        lines = (reject.tsv() for reject in rejects)
        with file.open("a", encoding="utf-8", newline="\n") as out:  # a run that goes on meets the same rows again
            out.writelines(line for line in lines if line.rstrip("\n") not in known)
        written = f", written to {file}"
    count = "1 bad row was" if len(rejects) == 1 else f"{len(rejects)} bad rows were"
    notice(f"{count} left out{written}; the first: {rejects[0]}")


def shown(file: Path) -> str:
    """The path as a person would write it: relative to the working folder when it lies below it."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def _format(file: Path) -> Format:
    suffix = Path(file.stem).suffix if file.suffix.lower() == ".gz" else file.suffix
    return SUFFIXES.get(suffix.lower(), "tsv")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
