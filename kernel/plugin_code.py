"""The source text of a plugin: what it made is kept for as long as its code stays the same."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .contracts import Plugin
from .registry import KINDS

DECLARING = {f"{__package__}.{name}" for name in ("contracts", "errors", "options", "registry")}


def sources(plugin: type[Plugin]) -> Iterator[str]:
    """The source text of a plugin, of its bases and of the modules of its own package that it names.

    The contracts and their like declare things and compute nothing: features outlive a change of theirs. Of a plugin
    in another process it is what that says of its code.
    """
    if plugin.elsewhere is not None:
        yield repr((plugin.name, plugin.elsewhere.version, plugin.elsewhere.digest))
        return
    modules = {kind.__module__ for kind in plugin.__mro__ if kind not in (object, ABC, Plugin, *KINDS.values())}
    top = plugin.__module__.partition(".")[0]
    for value in list(vars(sys.modules[plugin.__module__]).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str) and name.partition(".")[0] == top:
            modules.add(name)
    for name in sorted(modules - DECLARING):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            yield name + "\n" + Path(file).read_text(encoding="utf-8")


def digest(plugin: type[Plugin]) -> str:
    """A hash of the source text."""
    return hashlib.sha256("\n".join(sources(plugin)).encode()).hexdigest()
