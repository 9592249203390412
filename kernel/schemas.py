"""Options and fields as protobuf messages and back: by them a plugin in another process declares what it takes."""

from __future__ import annotations

import dataclasses
import functools
import json
import keyword
import operator
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deepgen.v1 import plugin_pb2, scene_pb2

from .contracts import Field
from .errors import PluginError
from .options import Alias, InputModel, InputPath, Option, Range
from .parsing import literals, parts, plain

if TYPE_CHECKING:
    from .scene import Scene

_SCALARS: dict[Any, plugin_pb2.OptionType.Kind.ValueType] = {
    bool: plugin_pb2.OptionType.BOOL,
    int: plugin_pb2.OptionType.INTEGER,
    float: plugin_pb2.OptionType.NUMBER,
    str: plugin_pb2.OptionType.TEXT,
}

_ORIGINS = {
    "default": scene_pb2.Origin.DEFAULT,
    "scene file": scene_pb2.Origin.SCENE_FILE,
    "command line": scene_pb2.Origin.COMMAND_LINE,
    "model folder": scene_pb2.Origin.MODEL_FOLDER,
}


def option_message(option: Option) -> plugin_pb2.Option:
    """One declared option."""
    members = parts(option.type)
    return plugin_pb2.Option(
        name=option.name,
        type=option.kind,
        default=plain(option.default),
        has_default=True,
        choices=option.choices,
        help=option.help,
        aliases=option.aliases,
        types=[_type_message(member) for member in members if member is not type(None)],
        nullable=type(None) in members,
        least=None if option.range is None else option.range.least,
        most=None if option.range is None or option.range.most == float("inf") else option.range.most,
        is_path=option.is_path,
        is_model=option.is_model,
        default_json=json.dumps(option.default),
    )


def _type_message(kind: Any) -> plugin_pb2.OptionType:
    if choices := literals(kind):
        return plugin_pb2.OptionType(kind=plugin_pb2.OptionType.CHOICE, choices=[str(choice) for choice in choices])
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (tuple, list):
        return plugin_pb2.OptionType(kind=plugin_pb2.OptionType.LIST, items=_type_message(arguments[0]))
    if origin is dict or kind is dict:
        items = _type_message(arguments[1]) if arguments[1:] and arguments[1] in _SCALARS else None
        return plugin_pb2.OptionType(kind=plugin_pb2.OptionType.MAPPING, items=items)
    return plugin_pb2.OptionType(kind=_SCALARS.get(kind, plugin_pb2.OptionType.TEXT))


def options_class(name: str, bases: tuple[type, ...], options: Sequence[plugin_pb2.Option]) -> type:
    """A dataclass with these options, whose values are read and checked like those of any plugin.

    Raises:
        PluginError: an option without a type or with one that is not known, with a default that is no JSON, or with a
            name that is none or taken.
    """
    fields: dict[str, tuple[str, Any, Any]] = {}
    for option in options:
        if not option.name.isidentifier() or keyword.iskeyword(option.name):
            raise PluginError(
                f"option '{option.name}' has a name that is none; use letters, digits and underscores, and no word of "
                "Python's own"
            )
        if any(hasattr(base, option.name) for base in bases):
            raise PluginError(f"option '{option.name}' has the name of what each plugin of its kind has; rename it")
        if option.name in fields:
            raise PluginError(f"option '{option.name}' is declared twice")
        if not option.types:
            raise PluginError(f"option '{option.name}' declares no types")
        kind: Any = _union([*map(_type, option.types), *([None] if option.nullable else [])])
        marks: list[Any] = [Alias(*option.aliases)] if option.aliases else []
        if option.HasField("least") or option.HasField("most"):
            least = option.least if option.HasField("least") else float("-inf")
            marks.append(Range(least, option.most if option.HasField("most") else float("inf")))
        if option.is_path or option.is_model:
            marks.append(InputModel if option.is_model else InputPath)
        if marks:
            kind = typing.Annotated[kind, *marks]
        fields[option.name] = (option.name, kind, dataclasses.field(default_factory=_default(option)))
    made = dataclasses.make_dataclass(name, fields.values(), bases=bases)
    made.option_help = {option.name: option.help for option in options}  # type: ignore[attr-defined]
    return made


def _default(option: plugin_pb2.Option) -> Any:
    try:
        value = value_of(json.loads(option.default_json or "null"))
    except ValueError:
        raise PluginError(f"option '{option.name}' has a default that is no JSON: {option.default_json}") from None
    return lambda: value


def value_of(value: Any) -> Any:
    """A value as JSON has it in the form that options have: lists are tuples."""
    if isinstance(value, list):
        return tuple(value_of(item) for item in value)
    if isinstance(value, Mapping):
        return {key: value_of(item) for key, item in value.items()}
    return value


def given(option: Option, text: str) -> Any:
    """The value of an option that came as JSON.

    Raises:
        ValueError: it is no JSON.
    """
    value = value_of(json.loads(text))
    choices = {str(choice): choice for part in parts(option.type) for choice in literals(part)}
    return choices.get(value, value) if isinstance(value, str) else value


def _union(kinds: Sequence[Any]) -> Any:
    return functools.reduce(operator.or_, kinds)


def _type(message: plugin_pb2.OptionType) -> Any:
    kind = message.kind
    if kind == plugin_pb2.OptionType.CHOICE:
        return Literal[tuple(message.choices)]
    if kind == plugin_pb2.OptionType.LIST:
        return types.GenericAlias(tuple, (_type(message.items), ...))
    if kind == plugin_pb2.OptionType.MAPPING:
        return types.GenericAlias(dict, (str, _type(message.items) if message.HasField("items") else Any))
    scalars = {number: scalar for scalar, number in _SCALARS.items()}
    if kind not in scalars:
        raise PluginError(f"an option has the type {kind}, which this version does not know")
    return scalars[kind]


def field_message(field: Field) -> plugin_pb2.Field:
    """One field of features."""
    ragged = field.shape == "ragged"
    return plugin_pb2.Field(
        name=field.name,
        dtype=field.dtype,
        shape=plugin_pb2.Field.Shape.Value(field.shape.upper()),
        padding=str(field.padding) if ragged else "",
        mask=field.mask or "",
        side=field.side if ragged else "",
        length=field.length,
    )


def field_of(message: plugin_pb2.Field) -> Field:
    """One field of features.

    Raises:
        PluginError: a type, shape or padding that there is not.
    """
    if message.shape not in plugin_pb2.Field.Shape.values():
        raise PluginError(f"field '{message.name}' has the shape {message.shape}, which this version does not know")
    shape: Any = plugin_pb2.Field.Shape.Name(message.shape or plugin_pb2.Field.SCALAR).lower()
    if message.dtype not in ("int64", "float32", "string"):
        raise PluginError(f"field '{message.name}' is '{message.dtype}'; it can be int64, float32 or string")
    if message.side not in ("", "tokenizer", "right"):
        raise PluginError(f"field '{message.name}' is padded at '{message.side}'; it can be tokenizer or right")
    padding: Any = message.padding or "0"
    if padding not in ("pad_token", "pad_token_type"):
        try:
            padding = int(padding)
        except ValueError:
            raise PluginError(
                f"field '{message.name}' is padded with '{padding}'; give pad_token, pad_token_type or a number"
            ) from None
    dtype: Any = message.dtype
    side: Any = message.side or "tokenizer"
    return Field(message.name, dtype, shape, padding, message.mask or None, side, message.length)


def described(plugin: Any, source: str) -> plugin_pb2.PluginDescriptor:
    """What a plugin in another process has said of itself; where its code is, is for us to say."""
    descriptor = plugin_pb2.PluginDescriptor()
    descriptor.CopyFrom(plugin._descriptor)
    descriptor.source = source
    return descriptor


def scene_message(scene: Scene) -> scene_pb2.Scene:
    """A scene's settings with their values and origins, and the plugins that it names."""
    settings = [
        scene_pb2.Setting(
            name=value.option.name,
            value=plain(value.value),
            origin=scene_pb2.Origin(kind=_ORIGINS[value.origin.kind], file=value.origin.file, line=value.origin.line),
            declared_by=value.option.declared_by,
        )
        for value in scene.values.values()
    ]
    plugins = [scene_pb2.PluginReference(kind=kind, name=name) for kind, name in scene.plugins]
    return scene_pb2.Scene(name=scene.name, path=str(scene.path or ""), settings=settings, plugins=plugins)
