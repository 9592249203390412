"""Checkpoints of a run: written aside, published by rename, and used only when every file is whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import RunError

MANIFEST = "manifest.json"
"""Written last: the size of every other file, and facts of the one who saved."""


class Ranks(Protocol):
    """What the ranks of a run need of each other here; the engine is one."""

    rank: int

    def barrier(self) -> None: ...

    def broadcast(self, item: Any) -> Any: ...


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    step: int
    path: Path
    facts: Mapping[str, Any]


class Checkpoints:
    """The folder `checkpoints/` of a run, with one folder `step-N` for each. Every rank calls every method."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder = folder
        self._ranks = ranks

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step}"

    def save(self, step: int, write: Callable[[Path], None], facts: Mapping[str, Any]) -> Checkpoint:
        """Lets every rank write its files into a folder aside, then publishes it under its name.

        Args:
            step: optimizer steps done.
            write: writes this rank's files below the folder it is given.
            facts: what is to be known before anything is loaded; JSON.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        aside = self.folder / f".step-{step}.partial"
        self._as_first(lambda: _fresh(aside))
        failure = None
        try:
            write(aside)
        except OSError as error:
            failure = f"{aside}: {error.strerror or error}"
        self._all_well(failure)
        self._as_first(lambda: _publish(aside, self.path(step), {"step": step, "facts": dict(facts)}))
        return Checkpoint(step, self.path(step), facts)

    def newest(self) -> Checkpoint | None:
        """The whole checkpoint of the highest step; what is broken or half-written is passed over."""
        found: Checkpoint | None = None
        if self._ranks.rank == 0:
            folders = {int(path.name[5:]): path for path in self.folder.glob("step-*") if path.name[5:].isdigit()}
            for _, path in sorted(folders.items(), reverse=True):
                if (found := _read(path)) is not None:
                    break
        result: Checkpoint | None = self._ranks.broadcast(found)
        return result

    def prune(self, limit: int | None, keep: Collection[int] = ()) -> None:
        """Removes the oldest ones until `limit` are left; the newest and those of the steps in `keep` always stay."""

        def remove() -> None:
            steps = sorted(int(path.name[5:]) for path in self.folder.glob("step-*") if path.name[5:].isdigit())
            stay = {*keep, *steps[-1:]} & set(steps)
            room = max(0, (limit or len(steps)) - len(stay))
            others = [step for step in steps if step not in stay]
            for step in others[: len(others) - room]:
                shutil.rmtree(self.path(step), ignore_errors=True)

        self._as_first(remove)

    def _as_first(self, act: Callable[[], None]) -> None:
        """Rank 0 acts while the others wait; when it fails, all fail with the same words."""
        failure = None
        if self._ranks.rank == 0:
            try:
                act()
            except OSError as error:
                failure = f"{error.filename or self.folder}: {error.strerror or error}"
        failure = self._ranks.broadcast(failure)
        if failure is not None:
            raise RunError(f"the checkpoint cannot be written: {failure}")

    def _all_well(self, failure: str | None) -> None:
        """Waits for all ranks; the one that failed says why."""
        if failure is not None:
            raise RunError(f"the checkpoint cannot be written: {failure}")
        self._ranks.barrier()


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _publish(aside: Path, path: Path, about: Mapping[str, Any]) -> None:
    """Makes the files durable, lists their sizes and gives the folder its name."""
    files = sorted(file for file in aside.rglob("*") if file.is_file())
    for file in files:
        _sync(file)
    sizes = {str(file.relative_to(aside)): file.stat().st_size for file in files}
    manifest = aside / MANIFEST
    manifest.write_text(json.dumps({**about, "files": sizes}, indent=1), encoding="utf-8")
    _sync(manifest)
    if path.exists():
        shutil.rmtree(path)
    aside.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> Checkpoint | None:
    """The checkpoint in a folder, or None when a file is missing or has another size than when it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        whole = all((path / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return Checkpoint(int(manifest["step"]), path, manifest["facts"]) if whole else None
