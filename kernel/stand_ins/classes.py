"""Makes the classes that stand for what an endpoint offers, from what it says of it."""

from __future__ import annotations

from typing import Any, cast

from deepgen.v1 import plugin_pb2

from ..connections import Connection
from ..contracts import Elsewhere, Plugin
from ..errors import PluginError
from ..schemas import options_class
from .metric import MergingMetric, RemoteMetric
from .model import RemoteModel
from .outputter import AssemblingOutputter, ReadingOutputter, RemoteOutputter
from .processor import DrawingProcessor, RemoteProcessor


def classes_at(connection: Connection) -> list[type[Plugin]]:
    """The classes for what an endpoint offers.

    Raises:
        PluginError: it cannot be understood, or offers nothing.
    """
    made = [_class(connection, descriptor) for descriptor in connection.link.plugins]
    if not made:
        raise PluginError(f"--plugin {connection.endpoint.text}: offers no plugin")
    return made


def _class(connection: Connection, descriptor: plugin_pb2.PluginDescriptor) -> type[Plugin]:
    """The class that stands for a plugin."""
    known = descriptor.kind in plugin_pb2.PluginDescriptor.Kind.values()
    kind = plugin_pb2.PluginDescriptor.Kind.Name(descriptor.kind).lower() if known else f"kind {descriptor.kind}"
    abilities = set(descriptor.abilities)
    where = f"--plugin {connection.endpoint.text}: {kind} '{descriptor.name}'"
    bases: dict[str, tuple[type, ...]] = {
        "processor": (DrawingProcessor if "draw" in abilities else RemoteProcessor,),
        "model": (RemoteModel,),
        "metric": (MergingMetric if "merge" in abilities else RemoteMetric,),
        "outputter": (
            *((AssemblingOutputter,) if "assemble" in abilities else ()),
            *((ReadingOutputter,) if "read" in abilities else ()),
            RemoteOutputter,
        ),
    }
    if kind not in bases:
        raise PluginError(f"{where}: a plugin of that kind cannot be in another process")
    if not descriptor.name:
        raise PluginError(f"{where}: has no name")
    try:
        made: Any = options_class(f"{descriptor.name}_elsewhere", bases[kind], descriptor.options)
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from None
    made.name = descriptor.name
    made.__doc__ = descriptor.summary
    made._connection, made._descriptor = connection, descriptor
    code = descriptor.digest or connection.endpoint.code()
    made.elsewhere = Elsewhere(connection.endpoint.text, descriptor.version, code)
    made.fits = frozenset(descriptor.fits)
    if kind == "model":
        made.needs, made.needs_to_train = tuple(field.name for field in descriptor.inputs), ()
    if kind == "processor":
        made.columns_in = (descriptor.least_columns or 1, descriptor.most_columns or 1)
    if kind == "metric":
        made.higher_is_better = descriptor.higher_is_better
    if kind == "outputter":
        made.extension = descriptor.extension or ".txt"
    return cast(type[Plugin], made)
