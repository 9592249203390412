"""What a command line names to be served: files of plugins, and plugins by kind and name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...kernel import registry
from ...kernel.errors import PluginError, UserError, did_you_mean
from .instances import why_not

SERVED = ("processor", "metric", "outputter")


def offered(words: Sequence[str]) -> tuple[dict[tuple[str, str], registry.Found], list[str]]:
    """The plugins that are served, and notes on those that are not.

    Raises:
        UserError: there is no such plugin, or none that can be served.
    """
    found: dict[tuple[str, str], registry.Found] = {}
    notes: list[str] = []
    for word in words:
        keys = _keys(word)
        refused = [why_not(kind, name) for kind, name in keys if kind in ("model", "trainer")]
        keys = [key for key in keys if key[0] in SERVED]
        if not keys:
            raise PluginError(refused[0] if refused else f"{word} has no {', '.join(SERVED[:-1])} or {SERVED[-1]}")
        notes += refused
        found.update({key: registry.find(*key) for key in keys})
    return found, notes


def _keys(word: str) -> list[tuple[str, str]]:
    kind, colon, name = word.partition(":")
    if not colon or Path(word).exists():
        if not Path(word).exists():
            raise UserError(f"{word}: no such file; give a Python file with plugins, or KIND:NAME")
        try:
            registry.load_file(word)
        except PluginError as error:
            raise PluginError(str(error).removeprefix("--plugin ")) from error
        return registry.plugins_of(word)
    if kind not in registry.KINDS:
        near = did_you_mean(kind, registry.KINDS) or f"; there are {', '.join(SERVED)}"
        raise UserError(f"'{word}' is neither a file nor KIND:NAME: no kind of plugin is called '{kind}'{near}")
    return [(kind, name)]
