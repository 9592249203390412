"""A scene from its message, as far as `check` of a plugin looks at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deepgen.v1 import scene_pb2

from ...kernel import registry
from ...kernel.errors import PluginError
from ...kernel.options import Option, options_of
from ...kernel.scene import Origin, Scene, Value
from .values import as_written

_ORIGINS: dict[int, Any] = {
    scene_pb2.Origin.SCENE_FILE: "scene file",
    scene_pb2.Origin.COMMAND_LINE: "command line",
    scene_pb2.Origin.MODEL_FOLDER: "model folder",
}


def scene_of(message: scene_pb2.Scene) -> Scene:
    """The scene with the settings that were sent; one that is not known here is text."""
    from ...kernel.settings import KERNEL

    declared = {option.name: option for owner in KERNEL for option in options_of(owner, "kernel")}
    values = {name: Value(option, option.default, Origin("default")) for name, option in declared.items()}
    for setting in message.settings:
        option = declared.get(setting.name) if setting.declared_by == "kernel" else _option(setting)
        option = option or Option(setting.name, str, "", "", setting.declared_by)
        origin = Origin(_ORIGINS.get(setting.origin.kind, "default"), setting.origin.file, setting.origin.line)
        values[setting.name] = Value(option, _value(option, setting.value), origin)
    return Scene(message.name, Path(message.path) if message.path else None, values)


def absent_plugins(message: scene_pb2.Scene) -> list[str]:
    """The plugins of a scene that are not here; what is checked with them cannot be checked here."""
    names = []
    for plugin in message.plugins:
        try:
            registry.find(plugin.kind, plugin.name)
        except PluginError:
            names.append(f"{plugin.kind} '{plugin.name}'")
    return names


def _option(setting: scene_pb2.Setting) -> Option | None:
    kind, _, name = setting.declared_by.partition(" ")
    try:
        plugin = registry.find(kind, name).plugin
    except (PluginError, ModuleNotFoundError):
        return None
    return next((one for one in options_of(plugin, setting.declared_by) if one.name == setting.name), None)


def _value(option: Option, text: str) -> Any:
    """The value of a setting as it was sent; lists and mappings may be JSON."""
    if text[:1] in ("{", "["):
        try:
            return option.parse(as_written(json.loads(text)))
        except ValueError:
            pass  # text that only looks like it
    try:
        return option.parse(text)
    except ValueError:
        return text
