"""Servers that each break one rule of the protocol: a real server whose calls go through a function that spoils them.

A twist is the method and a function of the request, the context and the method itself.
"""

from __future__ import annotations

import itertools
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pyarrow as pa
from google.protobuf.unknown_fields import UnknownFieldSet

from deepgen.controller.plugin_server.refusals import Refused
from deepgen.kernel.payload import read, written
from deepgen.v1 import plugin_service_pb2 as wire

Twist = tuple[str, Callable[[Any, Any, Callable[..., Any]], Any]]
COUNTER = itertools.count()
LOCK = threading.Lock()
STATE: dict[str, Any] = {}
"""What a twist keeps between calls; empty for each server."""


def then(spoil: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Callable[..., Any]], Any]:
    """Answers rightly, and then spoils the answer (given with the request)."""

    def twist(request: Any, context: Any, real: Callable[..., Any]) -> Any:
        answer = type_copy(real(request, context))
        spoil(answer, request)
        return answer

    return twist


def before(spoil: Callable[[Any], Any]) -> Callable[[Any, Any, Callable[..., Any]], Any]:
    """Spoils the request, and then answers it."""

    def twist(request: Any, context: Any, real: Callable[..., Any]) -> Any:
        spoil(request)
        return real(request, context)

    return twist


def type_copy(message: Any) -> Any:
    """A copy: the server may keep the original."""
    made = type(message)()
    made.CopyFrom(message)
    return made


def obliging(make: Callable[[], Any]) -> Callable[[Any, Any, Callable[..., Any]], Any]:
    """Answers also what must be refused."""

    def twist(request: Any, context: Any, real: Callable[..., Any]) -> Any:
        try:
            answer = real(request, context)
        except Refused:
            return make()
        return make() if hasattr(answer, "failure") and answer.HasField("failure") else answer

    return twist


def crashing(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    """Ends a call that must be refused with a status that says nothing."""
    try:
        answer = real(request, context)
    except Refused:
        raise RuntimeError("crashed") from None
    if answer.HasField("failure"):
        raise RuntimeError("crashed")
    return answer


def greeted() -> Any:
    return wire.HandshakeResponse(protocol_version=1, plugin="obliging", features=["payload.parts.v1"])


def strict(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    """Refuses fields that it does not know."""
    if len(UnknownFieldSet(request)):
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "what is this?")
    return real(request, context)


def first_batch(request: Any) -> None:
    batch = read(request.columns.arrow) if request.columns.arrow else None
    if batch is not None:
        with pa.ipc.open_stream(request.columns.arrow) as stream:
            request.columns.arrow = written(next(iter(stream))).to_pybytes()


def beside_the_room(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    if request.HasField("room"):
        with open(request.room.path, "r+b") as file:
            file.seek(request.room.offset - 1)
            file.write(b"!")
    return real(request, context)


def shorter_in_a_room(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    """Answers otherwise where there is room for the answer, as only a run's host gives."""
    answer = type_copy(real(request, context))
    if request.HasField("room") and answer.HasField("fields"):
        rows = read(answer.fields.arrow)
        answer.fields.arrow = written(rows.slice(1)).to_pybytes()
    return answer


def forgetful(requests: Iterator[Any], context: Any, real: Callable[..., Any]) -> Any:
    pieces = list(requests)
    return real(iter(pieces[:-1] if len(pieces) > 1 else pieces), context)


def hurried(requests: Iterator[Any], context: Any, real: Callable[..., Any]) -> Any:
    """Waits for the pieces for a second, and takes what there is."""
    until = time.monotonic() + 1
    pieces = []
    for piece in requests:
        pieces.append(piece)
        if time.monotonic() > until:
            break
    return real(iter(pieces), context)


def again_and_again(request: Any, context: Any, real: Callable[..., Any]) -> Iterator[Any]:
    if request.key not in STATE:
        STATE[request.key] = list(real(request, context))
    yield from STATE[request.key]


def poisoned(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    """Does not get over a call that nobody waited for."""
    if "poisoned" in STATE:
        context.abort(grpc.StatusCode.INTERNAL, "poisoned")
    answer = real(request, context)
    time.sleep(0.05)
    if not context.is_active():
        STATE["poisoned"] = True
    return answer


def poisoned_put(requests: Any, context: Any, real: Callable[..., Any]) -> Any:
    if "poisoned" in STATE:
        context.abort(grpc.StatusCode.INTERNAL, "poisoned")
    try:
        return real(iter(list(requests)), context)
    except Exception:
        STATE["poisoned"] = True
        raise


def poisoned_get(request: Any, context: Any, real: Callable[..., Any]) -> Iterator[Any]:
    if "poisoned" in STATE:
        context.abort(grpc.StatusCode.NOT_FOUND, "poisoned")
    whole: list[bool] = []
    context.add_callback(lambda: None if whole else STATE.update(poisoned=True))
    for piece in real(request, context):
        time.sleep(0.05)
        yield piece
    whole.append(True)


def mixed(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    """Keeps the rows of a call where another call finds them."""
    STATE["columns"] = type_copy(request.columns)
    time.sleep(0.02)
    request.columns.CopyFrom(STATE["columns"])
    return real(request, context)


def slowly(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    with LOCK:
        time.sleep(1.0 if request.columns.ByteSize() > 1 << 19 else 0.0)
        return real(request, context)


def behind(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    with LOCK:
        return real(request, context)


def keeping(size: int) -> Callable[[Any, Any, Callable[..., Any]], Any]:
    """Keeps so many bytes of each call."""

    def twist(request: Any, context: Any, real: Callable[..., Any]) -> Any:
        kept = mmap.mmap(-1, size)  # not of the heap, where there may be room
        kept[:] = b"x" * size
        STATE.setdefault("kept", []).append(kept)
        return real(request, context)

    return twist


def twice_ready(answer: Any, request: Any) -> None:
    STATE["probes"] = STATE.get("probes", 0) + 1
    answer.ready = STATE["probes"] < 3


def extended(answer: Any, request: Any) -> None:
    answer.plugins.append(answer.plugins[0])


def at_plugin(name: str, value: Any) -> Callable[[Any, Any, Callable[..., Any]], Any]:
    """Describes its first plugin otherwise."""

    def spoil(answer: Any, request: Any) -> None:
        plugin = answer.plugins[0]
        made = value() if callable(value) else value
        if isinstance(made, list):
            getattr(plugin, name).extend(made)
        else:
            setattr(plugin, name, made)

    return then(spoil)


def without_options(*names: str) -> Callable[[Any, Any, Callable[..., Any]], Any]:
    """Lets options pass that it should refuse."""

    def twist(request: Any, context: Any, real: Callable[..., Any]) -> Any:
        answer = real(request, context)
        if answer.HasField("failure"):
            for name in [name for name in request.options if name in names or not names]:
                del request.options[name]
            return real(request, context)
        return answer

    return twist


def numbered(answer: Any, request: Any) -> None:
    answer.class_names.append(str(next(COUNTER)))


def spelled_out(answer: Any, request: Any) -> None:
    if request.options:
        answer.class_names.append("another")


def never_taken(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    try:
        return real(request, context)
    except Refused:
        return wire.ConfigureResponse()


def garbage_is_fatal(request: Any, context: Any, real: Callable[..., Any]) -> Any:
    if any(not text.startswith(("0", "1", "t", "f", "n", '"', "[", '{"')) for text in request.options.values()):
        raise RuntimeError("no JSON")
    return real(request, context)
