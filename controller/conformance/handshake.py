"""Checks of the first call: versions, features, the token, and what must be left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from deepgen.v1.plugin_service_pb2 import (
    DescribeRequest,
    GetRequest,
    HandshakeResponse,
    ProbeRequest,
    PutRequest,
    ReleaseRequest,
    ShutdownRequest,
)

from ...kernel.wire_features import PARTS, SHARED_MEMORY
from .checks import Skipped, Wrong, check, equal
from .load import carried, far, problem
from .regions import Region
from .server import FEATURES, Server, greeting
from .wire import Refused, Wire


def _said(server: Server, **more: object) -> HandshakeResponse:
    try:
        return server.wire.ask(server.wire.plugin.Handshake, greeting(**more))
    except Refused as refused:
        given = ", ".join(f"{name} {value!r}" for name, value in more.items())
        raise Wrong(f"a handshake with {given[:200]}", refused, "an answer") from None


def _refused(server: Server, words: list[str], **more: object) -> None:
    given = ", ".join(f"{name} {value}" for name, value in more.items())
    refused = server.wire.refusal(server.wire.plugin.Handshake, greeting(**more))
    right = "FAILED_PRECONDITION" + (f", naming {', '.join(words)}" if words else "")
    if refused is None:
        raise Wrong(given, "an answer", right)
    if refused.code != "FAILED_PRECONDITION" or not all(word in refused.words for word in words):
        raise Wrong(given, refused, right)
    server.wire.still_well("a handshake that was refused")


@check("handshake.version", "Version 1 is answered with version 1, and the plugin says who it is.", of="server")
def version(server: Server) -> None:
    answer = _said(server)
    equal("protocol_versions [1]", f"version {answer.protocol_version}", "version 1")
    if not answer.plugin.strip():
        raise Wrong("Handshake", "no name of the plugin", "such as 'my_plugin 2.1 (node 20)'")


@check("handshake.versions_several", "Of several versions the highest that both have is used.", of="server")
def versions_several(server: Server) -> None:
    for versions in ([1, 2, 3], [3, 2, 1], [0, 1, 4_000_000_000]):
        answer = _said(server, protocol_versions=versions)
        equal(f"protocol_versions {versions}", f"version {answer.protocol_version}", "version 1")


@check("handshake.version_none_in_common", "Higher versions alone are refused; the words name both sides' versions.",
       of="server")  # fmt: skip
def version_none_in_common(server: Server) -> None:
    _refused(server, ["2", "3", "1"], protocol_versions=[2, 3])


@check("handshake.version_lower", "A version below those the plugin has is refused.", of="server")
def version_lower(server: Server) -> None:
    _refused(server, [], protocol_versions=[0])


@check("handshake.version_missing", "A handshake that names no version is refused.", of="server")
def version_missing(server: Server) -> None:
    _refused(server, [], protocol_versions=[])


@check("handshake.feature_unknown", "A feature that it does not know is not used, and changes nothing.", of="server")
def feature_unknown(server: Server) -> None:
    strange = ("teleport.v9", "", "x" * 1000)
    answer = _said(server, features=[*FEATURES, *strange])
    if took := sorted(set(strange) & set(answer.features)):
        raise Wrong(f"the feature {took[0]!r}", "the plugin has it, too", "only features that it knows")
    equal("a feature that it does not know", sorted(answer.features), sorted(_said(server).features))


@check("handshake.feature_required", "An unknown feature that the host requires is refused by name.", of="server")
def feature_required(server: Server) -> None:
    _refused(server, ["teleport.v9"], required_features=[PARTS, "teleport.v9"])


@check("handshake.feature_parts", "It has the feature payload.parts.v1, also where the host requires it.", of="server")
def feature_parts(server: Server) -> None:
    answer = _said(server, required_features=[PARTS])
    if PARTS not in answer.features:
        raise Wrong(
            "Handshake", f"the features {list(answer.features)}", "also payload.parts.v1, as everybody who serves"
        )


@check("handshake.requires", "It requires only features that this version of the protocol has.", of="server")
def requires(server: Server) -> None:
    if strange := sorted(set(_said(server).required_features) - set(FEATURES)):
        raise Wrong("Handshake", f"the plugin requires {', '.join(strange)}", f"only of {', '.join(FEATURES)}")


@check("handshake.nonce", "The nonce comes back byte by byte, whatever is in it.", of="server")
def nonce(server: Server) -> None:
    for given in (b"", b"\0", bytes(range(256)), os.urandom(65536)):
        answer = _said(server, nonce=given)
        if answer.nonce != given:
            raise Wrong(f"a nonce of {len(given)} bytes", f"{len(answer.nonce)} bytes", "the same bytes")


@check("handshake.probe", "It gives back what is in the memory, or nothing; never something else.", of="server")
def probe(server: Server) -> None:
    if not server.endpoint.is_local:
        raise Skipped("memory is not shared with another machine")
    secret = os.urandom(64)
    with Region(4096) as region:
        region.bytes[100:164] = secret
        answer = _said(server, probe=region.part(100, 64))
        if answer.probe not in (b"", secret):
            raise Wrong("64 random bytes at place 100 of the memory", f"{len(answer.probe)} others", "these, or none")
        if answer.probe and SHARED_MEMORY not in answer.features:
            raise Wrong("memory that it can read", f"the features {list(answer.features)}", f"also {SHARED_MEMORY}")
        if not answer.probe and SHARED_MEMORY in answer.features and server.is_ours:
            raise Wrong(
                "memory of this machine", f"{SHARED_MEMORY}, but nothing of what is in it", "what is in it, or neither"
            )


@check(
    "handshake.probe_unreadable", "Memory that is not there is no mistake: the answer has nothing of it.", of="server"
)
def probe_unreadable(server: Server) -> None:
    from deepgen.v1.payload_pb2 import SharedMemory

    with Region(64) as region:
        beyond = region.part(32, 4096)
        for given in (SharedMemory(path="/proc/0/fd/99", length=64), SharedMemory(path="", length=8), beyond):
            equal(f"a probe at {given.path!r}", _said(server, probe=given).probe.hex(), "")


@check("handshake.repeated", "The same handshake again gives the same answer.", of="server")
def repeated(server: Server) -> None:
    first = _said(server, nonce=b"again")
    equal("the same handshake twice", _said(server, nonce=b"again"), first)


@check("handshake.sharing", "It says in a known word how many programs there are to be.", of="server")
def sharing(server: Server) -> None:
    answer = _said(server)
    if answer.sharing not in answer.Sharing.values():
        raise Wrong("Handshake", f"sharing {answer.sharing}", "one of " + ", ".join(answer.Sharing.keys()))


@check("handshake.token_missing", "Without its token no call is answered: UNAUTHENTICATED.", of="server")
def token_missing(server: Server) -> None:
    _unauthenticated(server, "")


@check("handshake.token_wrong", "With another token no call is answered: UNAUTHENTICATED.", of="server")
def token_wrong(server: Server) -> None:
    _unauthenticated(server, "wrong-" + server.wire.token)


def _unauthenticated(server: Server, token: str) -> None:
    wire = server.wire
    if not wire.token:
        raise Skipped("it was given no token")
    link, how = wire.plugin, "with another token" if token else "without a token"
    calls: list[tuple[str, Callable[..., Any], Any]] = [
        ("Handshake", link.Handshake, greeting()),
        ("Describe", link.Describe, DescribeRequest()),
        ("Probe", link.Probe, ProbeRequest()),
        ("Release", link.Release, ReleaseRequest(instance="nobody's")),
        ("Put", link.Put, iter([PutRequest(data=b"1")])),
        ("Get", lambda *asked, **more: list(link.Get(*asked, **more)), GetRequest(key="nobody's")),
    ]
    for case in server.able:
        rows = far(case).first(case.main, carried(case, 1), problem=problem(case))
        calls.append((f"the call of {case.title}", far(case).method(), rows))
    for name, method, request in calls:
        _refused_as_unknown(wire, f"{name} {how}", method, request, token)
    if server.is_ours:
        with server.another() as (_, other):
            _refused_as_unknown(other, f"Shutdown {how}", other.plugin.Shutdown, ShutdownRequest(), token)


def _refused_as_unknown(wire: Wire, given: str, method: Callable[..., Any], request: Any, token: str) -> None:
    refused = wire.refusal(method, request, token=token)
    equal(given, refused.code if refused else "an answer", "UNAUTHENTICATED")
