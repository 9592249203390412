"""Checks that messages of a later version are understood as far as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepgen.v1.plugin_service_pb2 import DescribeRequest, ProbeRequest

from .checks import Wrong, check
from .far import Far
from .load import carried, problem
from .server import Server, greeting
from .subject import Failed
from .wire import Refused


@check("message.unknown_fields", "Fields that it does not know change nothing, in any message.", of="server")
def unknown_fields(server: Server) -> None:
    link = server.wire
    _tolerated("Probe", link.ask, link.plugin.Probe, ProbeRequest())
    _tolerated("Handshake", link.ask, link.plugin.Handshake, greeting(nonce=b"1"))
    _tolerated("Describe", link.ask, link.plugin.Describe, DescribeRequest())
    for case in server.able:
        subject = case.subject
        assert isinstance(subject, Far), "a check over the wire"
        inputs, output = case.inputs, "labels" if case.kind == "processor" else ""
        request = subject.request(case.main, case.options, inputs, output)
        of_its_own = subject.request(case.named("strange"), case.options, inputs, output)
        _tolerated(f"Configure of {case.title}", link.ask, link.plugin.Configure, request, of_its_own)
        case.released("strange")
        rows = subject.first(case.main, carried(case, 5), problem=problem(case))
        _tolerated(f"the call of {case.title}", link.ask, subject.method(), rows)


def _tolerated(what: str, ask: Callable[..., Any], method: Any, request: Any, other: Any = None) -> None:
    plain = ask(method, request)
    strange = type(request)()
    strange.CopyFrom(other or request)
    # field 1000 as a text, field 1001 as a number, field 1002 as 8 bytes
    strange.MergeFromString(b"\xc2\x3e\x05hello\xc8\x3e\x2a\xd1\x3e12345678")
    try:
        answer = ask(method, strange)
    except (Refused, Failed) as refused:
        raise Wrong(f"{what} with fields of a later version", refused, "the answer as without them") from None
    if answer != plain:
        raise Wrong(f"{what} with fields of a later version", "another answer", "the answer as without them")
