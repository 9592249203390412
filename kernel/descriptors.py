"""Plugins and scenes as protobuf messages: the listing, the help and the reference pages are made from them."""

from __future__ import annotations

from deepgen.v1 import plugin_pb2, scene_pb2

from . import registry
from .contracts import Field, Metric, Model, Outputter, Plugin, Processor
from .errors import UserError
from .options import build, options_of
from .plugin_code import digest
from .scene import Scene
from .schemas import described, field_message, option_message, scene_message

ABILITIES = {
    "processor": ("check", "draw"),
    "model": ("check",),
    "metric": ("check", "merge"),
    "outputter": ("check", "assemble", "read"),
    "trainer": (),
}
"""By kind: the methods that not every plugin has of its own."""


def describe(found: registry.Found) -> plugin_pb2.PluginDescriptor:
    """What a plugin says of itself.

    Raises:
        PluginError: it cannot say what it is.
    """
    plugin = found.plugin
    if plugin.elsewhere is not None:
        return described(plugin, found.source)
    with registry.asking(plugin):
        return _described(found)


def _described(found: registry.Found) -> plugin_pb2.PluginDescriptor:
    plugin = found.plugin
    inputs, outputs = _fields(plugin)
    least, most = plugin.columns_in if issubclass(plugin, Processor) else (0, 0)
    return plugin_pb2.PluginDescriptor(
        kind=plugin_pb2.PluginDescriptor.Kind.Value(plugin.kind.upper()),
        name=plugin.name,
        version=found.version,
        summary=summary(plugin),
        options=[option_message(option) for option in options_of(plugin, f"{plugin.kind} {plugin.name}")],
        inputs=[field_message(field) for field in inputs],
        outputs=[field_message(field) for field in outputs],
        source=found.source,
        digest=digest(plugin),
        abilities=[name for name in ABILITIES[plugin.kind] if _has(plugin, name)],
        fits=sorted(getattr(plugin, "fits", ())),
        least_columns=least,
        most_columns=most,
        higher_is_better=getattr(plugin, "higher_is_better", False),
        extension=getattr(plugin, "extension", ""),
    )


def describe_scene(scene: Scene) -> scene_pb2.Scene:
    """A resolved scene with the origin of each value."""
    message = scene_message(scene)
    for reference in message.plugins:
        if (one := scene.unreached.get((reference.kind, reference.name))) is not None:
            reference.version, reference.source = one.version, one.endpoint
        else:
            found = registry.find(reference.kind, reference.name)
            reference.version, reference.source = found.version, found.source
    return message


def summary(plugin: type[Plugin]) -> str:
    """The first line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().split("\n")[0]


def _has(plugin: type[Plugin], ability: str) -> bool:
    """Whether it has a method of its own beside that of its kind."""
    return getattr(plugin, ability) is not getattr(registry.KINDS[plugin.kind], ability)


def _fields(plugin: type[Plugin]) -> tuple[list[Field], list[Field]]:
    """What a plugin reads and yields with its default options, as far as that is known without data."""
    try:
        made = build(plugin, {}, f"{plugin.kind} {plugin.name}")
        if isinstance(made, Processor):
            columns = tuple(f"column{number + 1}" for number in range(made.columns_in[1]))
            made.bind(columns, "output")
            return [Field(column, "string") for column in columns], list(made.fields())
        if isinstance(made, Model):
            return [Field(name, "int64") for name in (*made.needs, *made.needs_to_train)], []
        if isinstance(made, Metric):
            return [], [Field(key, "float32") for key in made.keys()]  # noqa: SIM118 - a method of its own
        if isinstance(made, Outputter):
            columns = made.columns(sorted(made.fits)[0], ())
            return [], [Field(column, "string") for column in columns]
    except UserError:  # it cannot be made without options
        return [], []
    return [], []
