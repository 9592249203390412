"""The run folder: which one a run gets, so that no earlier work is lost and an unfinished run goes on."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SceneError
from .events import FILE as EVENTS
from .events import read_events
from .record import resolved_text

if TYPE_CHECKING:
    from .scene import Scene

PARTS = (EVENTS, "scene.yaml", "metrics.json", "rejects.tsv", "log", "checkpoints", "model")
"""What a run puts into its folder, besides the result file."""
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
        return _given(scene, Path(output_dir), overwrite)
    for path in _names(Path("runs").absolute() / scene.name):
        if not _lock(path):
            continue
        if overwrite:
            _clear(path)
        if not (path / EVENTS).exists() or not _worth_keeping(path):
            _clear(path)
            return RunFolder(path, resumes=False)
        if not _finished(path) and not _difference(scene, path):
            return RunFolder(path, resumes=True, note=f"going on with the unfinished run in {path}")
    raise AssertionError("the names never end")


def _given(scene: Scene, path: Path, overwrite: bool) -> RunFolder:
    path = path.absolute()
    where = scene.where("output_dir")
    if path.exists() and not path.is_dir():
        raise SceneError(f"{where}: {path} is a file; give a folder")
    if not _lock(path):
        raise SceneError(f"{where}: a run is going on in {path}; wait for it, or choose another folder")
    if overwrite or not (path / EVENTS).exists() or not _worth_keeping(path):
        _clear(path)
        return RunFolder(path, resumes=False)
    way_out = "choose another --output_dir, or start over with --overwrite_output_dir"
    if _finished(path):
        raise SceneError(f"{where}: {path} holds a finished run; {way_out}")
    if difference := _difference(scene, path):
        raise SceneError(f"{where}: {path} holds an unfinished run with another {difference}; {way_out}")
    return RunFolder(path, resumes=True, note=f"going on with the unfinished run in {path}")


def _names(first: Path) -> Iterator[Path]:
    yield first
    number = 2
    while True:
        yield first.with_name(f"{first.name}-{number}")
        number += 1


def _finished(path: Path) -> bool:
    last: Any = None
    for last in read_events(path / EVENTS):
        pass
    return last is not None and last.WhichOneof("body") == "finished" and last.finished.state == last.finished.SUCCEEDED


def _worth_keeping(path: Path) -> bool:
    """A run that failed before its first checkpoint has left nothing that could be lost."""
    return _finished(path) or any((path / "checkpoints").glob("step-*")) or (path / "model").exists()


def _difference(scene: Scene, path: Path) -> str:
    """The first setting that the unfinished run in the folder has otherwise, or an empty string."""
    record = path / "scene.yaml"
    then = _plain(record.read_text(encoding="utf-8")) if record.exists() else {}
    now = _plain(resolved_text(scene))
    for name in now:
        if name not in FREE_TO_CHANGE and then.get(name) != now[name]:
            return name
    return ""


def _plain(text: str) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(text) or {})


def _clear(path: Path) -> None:
    """Removes the parts of an earlier run, and nothing else that may lie in the folder."""
    for name in PARTS:
        part = path / name
        if part.is_dir() and not part.is_symlink():
            for inner in part.iterdir():
                if inner.name != "lock":
                    shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
        else:
            part.unlink(missing_ok=True)


_locks: dict[Path, int] = {}


def _lock(path: Path) -> bool:
    """Takes the folder for this process; the system lets go of it when the process ends, however it ends."""
    lock = path / "log" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    _locks[path] = handle
    return True
