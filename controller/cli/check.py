"""`deepgen check SCENE [--name value …]`: each setting and where it came from; refuses what cannot run."""

from __future__ import annotations

from collections.abc import Sequence

from ...kernel.scene import Scene, Value
from ...kernel.settings import load


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen check --help` prints."""
    return "usage: deepgen check SCENE [--all] [--rows N] [--name value …]"


def main(arguments: Sequence[str]) -> int:
    """Prints the table of settings."""
    reference, tokens = split(arguments)
    scene = load(reference, tokens)
    print(table(scene))
    return 0


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The scene, where one is named first, and the `--name value` tokens after it."""
    if arguments and not arguments[0].startswith("--"):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def table(scene: Scene) -> str:
    """Setting, value and origin; those that were set come first."""
    values = sorted(scene.values.values(), key=lambda value: not value.is_set)
    rows = [(value.option.name, _shown(value), str(value.origin)) for value in values]
    wide = max(len(name) for name, _, _ in rows)
    wider = min(60, max(len(shown) for _, shown, _ in rows))
    return "\n".join(f"{name:<{wide}}  {shown:<{wider}}  {origin}" for name, shown, origin in rows)


def _shown(value: Value) -> str:
    if isinstance(value.value, tuple):
        return ",".join(map(str, value.value))
    return str(value.value)
