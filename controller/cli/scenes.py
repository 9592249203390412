"""`deepgen scenes`: the scenes that can be named, each with the comment that says what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...kernel.errors import UserError
from ...kernel.sources import SCENES


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen scenes --help` prints."""
    return "usage: deepgen scenes\n\nLists the scenes of ./scenes and those that come with DeepGen."


def main(arguments: Sequence[str]) -> int:
    """Prints a line a scene."""
    if arguments:
        raise UserError(f"deepgen scenes takes no '{arguments[0]}'; `deepgen check NAME` shows a scene")
    found: dict[str, Path] = {}
    for folder in (Path("scenes"), SCENES):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    wide = max(map(len, found), default=0)
    for name, path in sorted(found.items()):
        print(f"{name:<{wide}}  {_purpose(path)}")
    return 0


def _purpose(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
