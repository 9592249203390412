"""What every call passes: the token, the count of calls that are worked on, and refusals as statuses."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from .refusals import Refused

OPEN = "/grpc.health.v1.Health/"
"""Answers anybody, as a controller's does: a probe has no token."""
OURS = "/deepgen.v1."
AT_ANY_TIME = ("/deepgen.v1.PluginService/Probe", "/deepgen.v1.PluginService/Shutdown")
"""Answered at once, by threads of their own, also when the plugin is about to end."""


class Work:
    """The calls that are worked on."""

    def __init__(self) -> None:
        self._calls: set[grpc.ServicerContext] = set()
        self._ending = False
        self._changed = threading.Condition()

    @property
    def is_ending(self) -> bool:
        """Whether no more calls are taken."""
        return self._ending

    @contextmanager
    def call(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Counts one from its begin to its end.

        Raises:
            Refused: no more are taken.
        """
        with self._changed:
            if self._ending:
                raise Refused(grpc.StatusCode.UNAVAILABLE, "the plugin is ending")
            self._calls.add(context)
        try:
            yield
        finally:
            with self._changed:
                self._calls.discard(context)
                if self._ending:
                    self._changed.notify_all()

    def drain(self) -> bool:
        """Takes no more, and waits for those that somebody waits for; whether others go on."""
        with self._changed:
            self._ending = True
            while any(context.is_active() for context in self._calls):
                self._changed.wait(0.2)  # meanwhile, handlers of signals run
            return bool(self._calls)


class Gate(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Lets a call in that brings the token, and turns what it raises into a status."""

    def __init__(self, token: str, work: Work) -> None:
        """Lets everybody in where `token` is empty: the socket is the caller's alone then."""
        self._expected = f"Bearer {token}".encode() if token else b""
        self._work = work
        self._guarded: dict[str, Any] = {}
        self._at_once = ThreadPoolExecutor(2, "probe")

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Puts the gate before every method, once."""
        name = handler_call_details.method
        if name not in self._guarded:
            handler = continuation(handler_call_details)
            if handler is None:
                return None  # gRPC itself says that there is no such method
            self._guarded[name] = handler if name.startswith(OPEN) else self._guard(name, handler)
        return self._guarded[name]

    def _guard(self, name: str, handler: Any) -> Any:
        method = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        sides = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if side else "unary" for side in sides)
        counted = name.startswith(OURS) and name not in AT_ANY_TIME
        passage = self._stream(method, counted) if handler.response_streaming else self._single(method, counted)
        if name in AT_ANY_TIME:
            passage.experimental_thread_pool = self._at_once
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(passage, handler.request_deserializer, handler.response_serializer)

    def _single(self, method: Any, counted: bool) -> Any:
        def passage(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                self._admit(context)
                if not counted:
                    return method(request, context)
                with self._work.call(context):
                    return method(request, context)
            except Refused as error:
                context.abort(error.code, str(error))

        return passage

    def _stream(self, method: Any, counted: bool) -> Any:
        def passage(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                self._admit(context)
                if not counted:
                    yield from method(request, context)
                    return
                with self._work.call(context):
                    yield from method(request, context)
            except Refused as error:
                context.abort(error.code, str(error))

        return passage

    def _admit(self, context: grpc.ServicerContext) -> None:
        if not self._expected:
            return
        given = [value for key, value in context.invocation_metadata() if key == "authorization"]
        if not given:
            raise Refused(
                grpc.StatusCode.UNAUTHENTICATED,
                "the call carries no token; send it as metadata, authorization: Bearer TOKEN",
            )
        if len(given) > 1 or not hmac.compare_digest(str(given[0]).encode(), self._expected):
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "the token is not that of this plugin")
