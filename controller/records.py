"""The records in the folder of an attempt: their names, and how they are written whole or not at all. Stdlib only."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

ATTEMPT = "attempt.json"
"""What to start: written by the executor before there is a supervisor."""
LOCK = "lock"
"""Held (flock) from before the supervisor is forked until its end: whoever can take it knows that there is none."""
FENCE = "fence"
"""The attempt was given up: no supervisor may start any more."""
SHIM = "shim.json"
"""Who supervises, and since when: written before there is a launcher, so without it there never was one."""
CONTROL = "control"
"""The supervisor's socket."""
STOP = "stop.json"
"""A stop that was asked for before the supervisor listened."""
EXIT = "exit.json"
"""How it ended: written when none of its processes is left."""
RESERVE = ".exit.json"
"""Room for the exit record, taken while there is some: a full disk does not lose it."""
RESERVED = 16 << 10
LAUNCHER_LOG = "launcher.log"
SHIM_LOG = "shim.log"
RANK_LOGS = "ranks"


def write_record(path: Path, record: dict[str, Any], aside: Path | None = None) -> None:
    """Writes a JSON object so that after a crash, also of the machine, the file is whole, or as it was before.

    `aside` is the file to write first; the room that it takes already is used.
    """
    aside = aside or path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        content = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        written = 0
        while written < len(content):
            written += os.write(handle, content[written:])
        os.ftruncate(handle, len(content))
        os.fsync(handle)
    finally:
        os.close(handle)
    aside.rename(path)
    sync_folder(path.parent)


def reserve(path: Path, size: int) -> None:
    """Takes room on the disk for a file that is to be written later."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        # a file system that cannot reserve is no reason not to run
        with contextlib.suppress(OSError):
            os.posix_fallocate(handle, 0, size)
    finally:
        os.close(handle)


def read_record(path: Path) -> dict[str, Any] | None:
    """The object, or None where there is no such file.

    Raises:
        OSError: it cannot be read now. ValueError: it is not a record, which only another program can have caused.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a record")
    return record


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
