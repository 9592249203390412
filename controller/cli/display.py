"""How jobs look on a terminal: ages, bars, tables, and messages as JSON."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from deepgen.v1.job_pb2 import Job, JobProgress

_BAR = 12
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
"""States that are final until the job is retried."""


def note(text: str) -> None:
    """A line for the person, beside what the command prints for programs."""
    print(text, file=sys.stderr, flush=True)


def print_json(message: Message, *, lines: bool = True) -> None:
    """A message as JSON: on one line in lists and streams, with indentation where it is the only one."""
    from google.protobuf.json_format import MessageToJson

    indent = None if lines else 2
    text = MessageToJson(message, preserving_proto_field_name=True, indent=indent, ensure_ascii=False)
    print(text, flush=lines)


def state_of(job: Job) -> str:
    """The word for a job's state."""
    return type(job).State.Name(job.state)


def id_of(job: Job) -> str:
    """The id of a job."""
    return job.name.removeprefix("jobs/")


def width(stream: object = None) -> int | None:
    """Columns of the terminal; None where the output is no terminal and nothing must be cut."""
    out = sys.stdout if stream is None else stream
    if not getattr(out, "isatty", lambda: False)():
        return None
    return shutil.get_terminal_size().columns


def is_live() -> bool:
    """Whether standard error is a terminal on which a line can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def seconds_of(stamp: Timestamp) -> float:
    """Seconds since 1970."""
    return stamp.seconds + stamp.nanos / 1e9


def lasted(seconds: float) -> str:
    """A length of time in at most two units: 42s, 3m10s, 2h05m, 3d04h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def age(stamp: Timestamp) -> str:
    """How long ago that was."""
    return lasted(time.time() - seconds_of(stamp))


def moment(stamp: Timestamp) -> str:
    """The time of day here, with the date."""
    return datetime.fromtimestamp(seconds_of(stamp), UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float) -> str:
    """Four digits that count."""
    return f"{value:.4g}"


def bar(done: int, total: int, columns: int = _BAR) -> str:
    """`━━━━────` with the share."""
    share = min(1.0, done / total) if total > 0 else 0.0
    full = int(share * columns)
    return f"{'━' * full}{'─' * (columns - full)} {share:4.0%}"


def progress(at: JobProgress) -> str:
    """How far a run is, in few characters."""
    if at.total:
        return f"{at.stage} {bar(at.done, at.total)}"
    return f"{at.stage} {at.done:,}" if at.done else at.stage


def progress_in_full(at: JobProgress) -> str:
    """How far a run is, with its speed, what is left, and the newest values."""
    parts = [progress(at)]
    if at.step:
        parts.append(f"step {at.step:,}")
    parts += [f"{name} {number(value)}" for name, value in sorted(at.values.items())]
    if at.rows_per_second:
        parts.append(f"{at.rows_per_second:,.0f} rows/s")
    if at.seconds_left:
        parts.append(f"{lasted(at.seconds_left)} left")
    return "  ".join(filter(None, parts))


def table(rows: Sequence[Sequence[str]], columns: int | None) -> list[str]:
    """Rows with their columns side by side; the last column is cut where the line would be too long."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{size}}" for cell, size in zip(row, wide, strict=True)).rstrip() for row in rows]
    return [cut(line, columns) for line in lines]


def cut(line: str, columns: int | None) -> str:
    """The line, no longer than that."""
    return line if columns is None or len(line) <= columns else line[: max(1, columns - 1)] + "…"


def plain(text: str) -> str:
    """Text that a job or a user wrote, on one line and without control characters that could act on a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
