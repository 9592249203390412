"""The Catalog service: what a job can be made of, as the kernel's own descriptions say it."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from deepgen.v1 import controller_pb2 as wire
from deepgen.v1.controller_pb2_grpc import CatalogServicer
from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.scene_pb2 import Scene

from ..kernel.errors import PluginError, did_you_mean
from .admission import Admission, Roots
from .refusals import Refusal, cut, invalid

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CatalogService(CatalogServicer):
    """Plugins of the tree and of installed packages, and the scenes that can be named."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def ListPlugins(self, request: wire.ListPluginsRequest, context: Context) -> wire.ListPluginsResponse:
        """All plugins, or those of a kind."""
        found = await self._admission.in_turn(_plugins, request.kind)
        return wire.ListPluginsResponse(plugins=found)

    async def GetPlugin(self, request: wire.GetPluginRequest, context: Context) -> PluginDescriptor:
        """One plugin with its options."""
        parts = request.name.split("/")
        if len(parts) != 3 or parts[0] != "plugins":
            raise invalid("name", f"'{request.name[:200]}' is no plugin; a plugin's name is plugins/KIND/NAME")
        return await self._admission.in_turn(_plugin, parts[1], parts[2])

    async def ListScenes(self, request: wire.ListScenesRequest, context: Context) -> wire.ListScenesResponse:
        """The scenes that a job can name."""
        return wire.ListScenesResponse(scenes=await self._admission.in_turn(_scenes, self._admission.roots))

    async def GetScene(self, request: wire.GetSceneRequest, context: Context) -> Scene:
        """A scene with all its values."""
        from ..kernel.descriptors import describe_scene

        kind, slash, name = request.name.partition("/")
        if kind != "scenes" or not slash or not name:
            raise invalid("name", f"'{request.name[:200]}' is no scene; a scene's name is scenes/NAME")
        overrides = dict(request.overrides)
        return await self._admission.in_turn(lambda: describe_scene(self._admission.scene(name, overrides)))


def _plugins(kind: str) -> list[PluginDescriptor]:
    from ..kernel import registry

    kinds = [_kind(kind, "kind")] if kind else list(registry.KINDS)
    return [_described(each, name) for each in kinds for name in sorted(registry.names(each))]


def _described(kind: str, name: str) -> PluginDescriptor:
    """A broken plugin breaks no list."""
    from ..kernel import registry
    from ..kernel.descriptors import describe

    try:
        return describe(registry.find(kind, name))
    except PluginError as error:
        number = PluginDescriptor.Kind.Value(kind.upper())
        return PluginDescriptor(kind=number, name=name, summary=cut(f"BROKEN: {error}"))


def _plugin(kind: str, name: str) -> PluginDescriptor:
    from ..kernel import registry
    from ..kernel.descriptors import describe

    known = registry.names(_kind(kind, "name"))
    if name not in known:
        text = f"no {kind} is called '{name[:200]}'{did_you_mean(name, known)}"
        raise Refusal("NOT_FOUND", text, fields=[("name", text)])
    return describe(registry.find(kind, name))


def _kind(given: str, field: str) -> str:
    from ..kernel import registry

    if given not in registry.KINDS:
        near = did_you_mean(given, registry.KINDS) or "; there are " + ", ".join(registry.KINDS)
        raise invalid(field, f"no kind of plugin is called '{given[:200]}'{near}")
    return given


def _scenes(roots: Roots) -> list[wire.ListScenesResponse.Summary]:
    found: dict[str, str] = {}
    for shelf in roots.shelves():
        for file in sorted(shelf.glob("*.yaml")):
            if file.stem not in found:
                found[file.stem] = _purpose(file.read_text(encoding="utf-8", errors="replace"))
    return [wire.ListScenesResponse.Summary(name=name, purpose=purpose) for name, purpose in sorted(found.items())]


def _purpose(text: str) -> str:
    first = text.partition("\n")[0]
    return cut(first.removeprefix("#")) if first.startswith("#") else ""
