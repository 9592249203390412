"""What installed distributions offer as plugins, and who is to blame when something of a plugin cannot be imported."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "deepgen.plugins"


@cache
def _offered() -> tuple[EntryPoint, ...]:
    """What the installed distributions offer; looking through them takes a while."""
    return tuple(entry_points(group=GROUP))


def offers(kind: str, name: str | None = None) -> list[EntryPoint]:
    """The entry points of a kind (`metric.acc` is one of `metric`), or the one of that name; imports nothing."""
    wanted = f"{kind}." if name is None else f"{kind}.{name}"
    return [point for point in _offered() if point.name == wanted or (name is None and point.name.startswith(wanted))]


def blame(error: BaseException, file: Path) -> str:
    """The error and the deepest line of that file on its way."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" + (f" ({file}:{line})" if line else "")
