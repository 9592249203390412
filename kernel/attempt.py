"""What a rank leaves on record of its beginning and its end, for its supervisor and the other ranks; stdlib only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path

from .errors import Interrupted

ROOM = 4096
"""Bytes that are kept on the disk for the words a rank ends with."""
CONSEQUENCE = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|\bgloo\b|nccl(Remote|System|Internal)Error|NCCL communicator was"
    r" abort|Socket Timeout"
)
"""What a rank says when another one has died."""
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


def log(attempt: Path, rank: int, path: Path) -> None:
    """Says where the log of the rank is."""
    with contextlib.suppress(OSError):  # the run goes on without it
        _leave(attempt, f"rank_{rank}.log", f"{path}\n")


def log_of(attempt: Path, rank: int) -> Path | None:
    """Where the log of a rank is, if it has got so far."""
    record = attempt / f"rank_{rank}.log"
    return Path(record.read_text(encoding="utf-8").removesuffix("\n")) if record.exists() else None


def is_silent(attempt: Path, rank: int) -> bool:
    """Whether a rank that has ended did so without a word: it, or what ran in it, was ended in the middle."""
    return not any((attempt / f"rank_{rank}.{kind}").exists() for kind in ("done", "error", "code"))


def stopped_at_once(attempt: Path | None) -> bool:
    """Whether a rank left without a word because somebody wanted it: the others' lost connections mean no failure."""
    if attempt is None:
        return False
    codes = {record.stem: record.read_text(encoding="ascii").strip() for record in attempt.glob("rank_*.code")}
    spoken = {record.stem for record in attempt.glob("rank_*.error")}
    return any(number == str(Interrupted.exit_code) and rank not in spoken for rank, number in codes.items())


def first_error(attempt: Path) -> str | None:
    """What the first rank to fail wrote down; the others failed because of it, as some of them say themselves."""
    records = sorted(attempt.glob("rank_*.error"), key=lambda record: record.stat().st_mtime_ns)
    said = [record.read_text(encoding="utf-8").strip() for record in records]
    return next((words for words in said if not CONSEQUENCE.search(words)), said[0] if said else None)


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
