"""The table of twists: by the check that must find it, the method that is spoilt and how."""

from __future__ import annotations

from typing import Any

from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1 import processor_service_pb2 as processors

from . import twists
from .twists import COUNTER, Twist, at_plugin, before, crashing, keeping, obliging, then


def _set(name: str, value: Any) -> Any:
    def spoil(answer: Any, request: Any) -> None:
        made = value(request) if callable(value) else value
        if isinstance(made, list):
            del getattr(answer, name)[:]
            getattr(answer, name).extend(made)
        else:
            setattr(answer, name, made)

    return then(spoil)


def _shifted(request: Any) -> None:
    if request.columns.HasField("shared"):
        request.columns.shared.offset -= 8


def _released(request: Any, context: Any, real: Any) -> Any:
    return wire.ReleaseResponse()


def _answered(request: Any, context: Any, real: Any) -> Any:
    try:
        return real(request, context)
    except Exception:
        return processors.ProcessResponse()


TWISTS: dict[str, Twist] = {
    "handshake.version": ("Handshake", _set("plugin", "")),
    "handshake.versions_several": ("Handshake", _set("protocol_version", lambda asked: max(asked.protocol_versions))),
    "handshake.version_none_in_common": ("Handshake", obliging(twists.greeted)),
    "handshake.version_lower": ("Handshake", obliging(twists.greeted)),
    "handshake.version_missing": ("Handshake", obliging(twists.greeted)),
    "handshake.feature_unknown": ("Handshake", _set("features", lambda asked: [*asked.features, "payload.parts.v1"])),
    "handshake.feature_required": ("Handshake", obliging(twists.greeted)),
    "handshake.feature_parts": ("Handshake", _set("features", [])),
    "handshake.requires": ("Handshake", _set("required_features", ["teleport.v9"])),
    "handshake.nonce": ("Handshake", _set("nonce", lambda asked: asked.nonce.strip(b"\0"))),
    "handshake.probe": ("Handshake", _set("probe", lambda asked: b"x" * asked.probe.length)),
    "handshake.probe_unreadable": (
        "Handshake",
        _set("probe", lambda asked: b"0" if "/0/" in asked.probe.path else b""),
    ),
    "handshake.repeated": ("Handshake", _set("plugin", lambda asked: f"number {next(COUNTER)}")),
    "handshake.sharing": ("Handshake", _set("sharing", 7)),
    "message.unknown_fields": ("Process", twists.strict),
    "describe.offers": ("Describe", then(twists.extended)),
    "describe.stable": ("Describe", at_plugin("summary", lambda: f"number {next(COUNTER)}")),
    "describe.complete": ("Describe", at_plugin("summary", "")),
    "describe.options": ("Describe", then(lambda answer, asked: answer.plugins[0].options[0].ClearField("types"))),
    "describe.kind": ("Describe", at_plugin("most_columns", 0)),
    "describe.abilities": ("Describe", at_plugin("abilities", ["fly"])),
    "configure.defaults": ("Configure", then(twists.spelled_out)),
    "configure.repeated": ("Configure", then(twists.numbered)),
    "configure.taken": ("Configure", twists.never_taken),
    "configure.option_unknown": ("Configure", twists.without_options("no_such_option")),
    "configure.option_type": ("Configure", twists.without_options()),
    "configure.option_range": ("Configure", twists.without_options()),
    "configure.option_garbage": ("Configure", twists.garbage_is_fatal),
    "configure.plugin_unknown": ("Configure", obliging(wire.ConfigureResponse)),
    "configure.kind_unknown": ("Configure", obliging(wire.ConfigureResponse)),
    "configure.release": ("Release", _released),
    "configure.instance_missing": ("Process", _answered),
    "payload.several_batches": ("Process", before(twists.first_batch)),
    "payload.shared": ("Process", before(_shifted)),
    "payload.room": ("Process", twists.beside_the_room),
    "payload.parts": ("Put", twists.forgetful),
    "payload.parts_slow": ("Put", twists.hurried),
    "payload.parts_once": ("Get", twists.again_and_again),
    "payload.garbage": ("Process", crashing),
    "payload.truncated": ("Process", crashing),
    "payload.nowhere": ("Process", crashing),
    "payload.wrong_columns": ("Process", crashing),
    "life.probe": ("Probe", then(twists.twice_ready)),
    "cancel.call": ("Process", twists.poisoned),
    "cancel.deadline": ("Process", twists.poisoned),
    "cancel.put": ("Put", twists.poisoned_put),
    "cancel.get": ("Get", twists.poisoned_get),
    "concurrent.instances": ("Process", twists.mixed),
    "concurrent.one_instance": ("Process", twists.mixed),
    "host.answers": ("Process", twists.shorter_in_a_room),
    "leak.instances": ("Configure", keeping(1 << 18)),
    "leak.parts": ("Get", keeping(1 << 19)),
    "leak.refusals": ("Process", keeping(1 << 18)),
    "leak.calls": ("Process", keeping(1 << 15)),
}
