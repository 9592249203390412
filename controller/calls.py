"""Calls that are sent again when no answer came, and streams that are asked for again when they were cut."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, Self, TypeVar

import grpc
from google.protobuf.message import Message

from deepgen.v1.controller_pb2_grpc import CatalogStub, JobsStub

from .answers import translate
from .connection import Endpoint

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
_Sent = TypeVar("_Sent", bound=Message, contravariant=True)
_Answer = TypeVar("_Answer", covariant=True)
_Metadata = tuple[tuple[str, str | bytes], ...]


class Method(Protocol[_Sent, _Answer]):
    """A method of a stub."""

    def __call__(self, request: _Sent, timeout: float | None = None, metadata: _Metadata | None = None) -> _Answer: ...


class Calls:
    """The connection to one controller; may be shared by threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        patience: float = 3.0,
        timeout: float = 30.0,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Opens no connection yet.

        Args:
            patience: seconds for which a call is sent again when there is no answer; ten times that once there was one.
            timeout: seconds after which a call that was sent counts as not answered.
            notice: is told what a person who waits should know.
        """
        self.endpoint = endpoint
        self.patience = patience
        self.timeout = timeout
        self.notice = notice
        self.channel = endpoint.channel()
        self.jobs = JobsStub(self.channel)
        self.catalog = CatalogStub(self.channel)
        self._metadata: _Metadata = (("authorization", f"Bearer {endpoint.token}"),) if endpoint.token else ()
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.channel.close()

    def call(self, method: Method[Request, Reply], request: Request) -> Reply:
        """The answer to a request, which is sent again while none comes. Raises UserError or RunError."""
        return self.sent(method, request)[0]

    def sent(self, method: Method[Request, Reply], request: Request) -> tuple[Reply, bool]:
        """Also whether the request was sent more than once, so that an earlier one may have been heeded."""
        begin, pause, again = time.monotonic(), _FIRST_PAUSE, False
        while True:
            try:
                reply = method(request, timeout=self.timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                self._answered |= not is_lost(error)
                patience = self.patience * (10 if self._answered else 1)
                if not is_lost(error) or time.monotonic() + pause > begin + patience:
                    failure = translate(error, self.endpoint.address)
                    failure.again = again  # type: ignore[attr-defined]
                    raise failure from None
            else:
                self._answered = True
                return reply, again
            pause, again = _sleep(pause), True

    def stream(
        self,
        method: Method[Request, Iterable[Reply]],
        begin: Callable[[], Request],
        is_last: Callable[[Reply], bool] | None,
        *,
        endless: bool = True,
    ) -> Iterator[Reply]:
        """Messages up to the last one; a stream that was cut is asked for again, by what `begin` then says.

        Args:
            is_last: tells the message after which nothing comes; None where no message says so.
            endless: a stream that merely stops was cut; otherwise it is over.
        """
        failing_since, pause, told = 0.0, _FIRST_PAUSE, False
        while True:
            call = method(begin(), metadata=self._metadata)
            try:
                for message in call:
                    self._answered, failing_since, pause, told = True, 0.0, _FIRST_PAUSE, False
                    yield message
                    if is_last is not None and is_last(message):
                        return
                if not endless:
                    return
            except grpc.RpcError as error:
                failing_since = failing_since or time.monotonic()
                late = time.monotonic() > failing_since + self.patience
                if not is_lost(error) or (late and not self._answered):
                    raise translate(error, self.endpoint.address) from None
                if late and not told:
                    self.notice(f"the controller at {self.endpoint.address} does not answer; trying again")
                    told = True
            finally:
                if isinstance(call, grpc.Call):
                    call.cancel()  # type: ignore[no-untyped-call]
            pause = _sleep(pause)


def is_lost(error: grpc.RpcError) -> bool:
    """Whether no answer came, so that it is unknown whether the request was heeded: it may be sent again."""
    code, text = error.code(), error.details() or ""
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return True
    # A connection that ends in the middle of an answer, as some proxies and a stopping server bring about.
    return code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and any(
        sign in text for sign in ("RST_STREAM", "Stream removed", "GOAWAY")
    )


def _sleep(pause: float) -> float:
    """Waits about so many seconds and gives the next pause; many clients do not come back at the same moment."""
    time.sleep(pause * random.uniform(0.7, 1.3))
    return min(2 * pause, _LONGEST_PAUSE)
