"""The run folder: which one a run gets, so that no earlier work is lost and an unfinished run goes on."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SceneError
from .events import FILE as EVENTS
from .events import read_events
from .record import plain_settings, resolved_text
from .results import remove_leftovers

if TYPE_CHECKING:
    from .scene import Scene

PARTS = (EVENTS, "scene.yaml", "metrics.json", "rejects.tsv", "log", "checkpoints", "model")
"""What a run puts into its folder, besides the result file."""
LOCK = "lock"
FREE_TO_CHANGE = (
    "num_ranks",
    "output_dir",
    "overwrite_output_dir",
    "preprocessing_num_workers",
    "dataloader_num_workers",
)
"""Settings that may differ when an unfinished run goes on."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of this run."""

    path: Path
    resumes: bool
    """An unfinished run of the same scene lies in it."""
    note: str = ""


def choose(scene: Scene, output_dir: str | None, overwrite: bool) -> RunFolder:
    """The folder for a run, locked until this process ends.

    Without `output_dir` it is `runs/<scene>`, or the first of `runs/<scene>-2`, `-3` … that no other run has used. An
    unfinished run of the same settings is continued in its folder.

    Raises:
        SceneError: `output_dir` holds a finished run, a run with other settings, or one that is running now.
    """
    if output_dir is not None:
        path = Path(output_dir).absolute()
        where = scene.where("output_dir")
        if path.exists() and not path.is_dir():
            raise SceneError(f"{where}: {path} is a file; give a folder")
        if refusal := _refusal(scene, path, overwrite):
            raise SceneError(f"{where}: {refusal}")
        return _take(path)
    for path in _names(Path("runs").absolute() / scene.name):
        if not _refusal(scene, path, overwrite):
            return _take(path)
    raise AssertionError("the names never end")


def _refusal(scene: Scene, path: Path, overwrite: bool) -> str:
    """Why this run may not have the folder. Empty when it may: then it is locked, and cleared unless it resumes."""
    if not _lock(path):
        return f"a run is going on in {path}; wait for it, or choose another folder"
    if overwrite or not _worth_keeping(path):
        _clear(path)
        return ""
    way_out = "choose another --output_dir, or start over with --overwrite_output_dir"
    if _finished(path):
        _unlock(path)
        return f"{path} holds a finished run; {way_out}"
    if difference := _difference(scene, path):
        _unlock(path)
        return f"{path} holds an unfinished run with another {difference}; {way_out}"
    return ""


def _take(path: Path) -> RunFolder:
    remove_leftovers(path)
    resumes = (path / EVENTS).exists()
    return RunFolder(path, resumes, f"going on with the unfinished run in {path}" if resumes else "")


def _names(first: Path) -> Iterator[Path]:
    yield first
    number = 2
    while True:
        yield first.with_name(f"{first.name}-{number}")
        number += 1


def _finished(path: Path) -> bool:
    last = deque(read_events(path / EVENTS), maxlen=1)
    return bool(last) and last[0].HasField("finished") and last[0].finished.state == last[0].finished.SUCCEEDED


def _worth_keeping(path: Path) -> bool:
    """A run that failed before its first checkpoint has left nothing that could be lost."""
    return _finished(path) or any((path / "checkpoints").glob("step-*")) or (path / "model").exists()


def _difference(scene: Scene, path: Path) -> str:
    """The first setting that the unfinished run in the folder has otherwise, or an empty string."""
    record = path / "scene.yaml"
    then = plain_settings(record.read_text(encoding="utf-8")) if record.exists() else {}
    now = plain_settings(resolved_text(scene))
    for name in now:
        if name not in FREE_TO_CHANGE and then.get(name) != now[name]:
            return name
    return ""


def _clear(path: Path) -> None:
    """Removes the parts of an earlier run, and nothing else that may lie in the folder; the lock stays held."""
    for name in PARTS:
        part = path / name
        if name == "log":
            for inner in part.iterdir():
                if inner.name != LOCK:
                    shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
        elif part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


_locks: dict[Path, int] = {}


def _lock(path: Path) -> bool:
    """Takes the folder for this process; the system lets go of it when the process ends, however it ends."""
    lock = path / "log" / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _locks[path] = handle
    return True


def _unlock(path: Path) -> None:
    os.close(_locks.pop(path))
