"""What a resolved scene records of plugins in other processes: one that nothing uses is then not asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.json_format import MessageToJson, Parse, ParseError

from deepgen.v1.plugin_pb2 import PluginDescriptor

from .. import registry
from ..errors import PluginError
from ..options import Option, options_of
from ..schemas import described, options_class


@dataclass(frozen=True)
class Recorded:
    """A plugin as it was when the scene was resolved."""

    kind: str
    name: str
    endpoint: str
    version: str
    options: tuple[Option, ...]


def said(endpoint: str) -> list[str]:
    """Names and options of the plugins of an endpoint that was reached: each a PluginDescriptor as JSON."""
    plugins = [described(plugin, endpoint) for plugin in registry.at_endpoint(endpoint)]
    kept = [PluginDescriptor(kind=one.kind, name=one.name, version=one.version, options=one.options) for one in plugins]
    return [MessageToJson(one, indent=None, preserving_proto_field_name=True) for one in kept]


def read(endpoint: str, texts: Sequence[str]) -> list[Recorded]:
    """The plugins of an endpoint, by what was recorded of them.

    Raises:
        PluginError: it is no such record.
    """
    try:
        return [_plugin(endpoint, Parse(text, PluginDescriptor(), ignore_unknown_fields=True)) for text in texts]
    except (ParseError, PluginError, TypeError, ValueError) as error:
        raise PluginError(f"what is recorded of {endpoint} cannot be read: {error}") from None


def _plugin(endpoint: str, descriptor: PluginDescriptor) -> Recorded:
    kind = PluginDescriptor.Kind.Name(descriptor.kind).lower()
    options = options_of(options_class(descriptor.name, (), descriptor.options), f"{kind} {descriptor.name}")
    return Recorded(kind, descriptor.name, endpoint, descriptor.version, options)
