"""What a rank leaves on record of its beginning and its end, for its supervisor and the other ranks; stdlib only."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from .errors import Interrupted

ROOM = 4096
"""Bytes that are kept on the disk for the words a rank ends with."""
STOPPED = "stopped at once; the same command goes on from the last checkpoint, if there is one"


def folder() -> Path | None:
    """Where the ranks of this attempt leave their records; None without a supervisor."""
    named = os.environ.get("DEEPGEN_ATTEMPT")
    return Path(named) if named and Path(named).is_dir() else None


def begin(attempt: Path, rank: int) -> None:
    """Says which process the rank is, since a pid alone could be another's later; takes room for how it will end."""
    handle = os.open(attempt / f".rank_{rank}.end", os.O_WRONLY | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        os.posix_fallocate(handle, 0, ROOM)
    os.close(handle)
    stat = Path("/proc/self/stat")
    if stat.exists():
        start_time = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        me = {"pid": os.getpid(), "start_time": start_time, "boot_id": boot}
        _leave(attempt, f"rank_{rank}.pid", json.dumps(me) + "\n")


def done(attempt: Path, rank: int) -> None:
    """Says that the rank did its part."""
    _end(attempt, rank, "done", "")


def failed(attempt: Path, rank: int, message: str) -> None:
    """Says why the rank did not do its part."""
    _end(attempt, rank, "error", message + "\n")


def code(attempt: Path, rank: int, number: int) -> None:
    """Says which exit code the rank ends with, which a launcher between it and its supervisor may change."""
    with contextlib.suppress(OSError):  # the error itself is on record, for which there is room
        _leave(attempt, f"rank_{rank}.code", f"{number}\n")


def stopped_at_once(attempt: Path | None) -> bool:
    """Whether a rank left without a word because somebody wanted it: the others' lost connections mean no failure."""
    if attempt is None:
        return False
    codes = {record.stem: record.read_text(encoding="ascii").strip() for record in attempt.glob("rank_*.code")}
    spoken = {record.stem for record in attempt.glob("rank_*.error")}
    return any(number == str(Interrupted.exit_code) and rank not in spoken for rank, number in codes.items())


def first_error(attempt: Path) -> str | None:
    """What the first rank to fail wrote down; the others failed because of it."""
    records = sorted(attempt.glob("rank_*.error"), key=lambda record: record.stat().st_mtime_ns)
    return records[0].read_text(encoding="utf-8").strip() if records else None


def _end(attempt: Path, rank: int, kind: str, text: str) -> None:
    """Writes rank_N.done or rank_N.error, in the room that was taken before: a full disk does not lose it."""
    aside = attempt / f".rank_{rank}.end"
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600)
    written = os.write(handle, text.encode()[:ROOM].decode("utf-8", "ignore").encode())  # ends with a character
    os.ftruncate(handle, written)
    os.close(handle)
    aside.rename(attempt / f"rank_{rank}.{kind}")


def _leave(attempt: Path, name: str, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    aside = attempt / f".{name}.{time.time_ns()}"
    aside.write_text(text, encoding="utf-8")
    aside.rename(attempt / name)
