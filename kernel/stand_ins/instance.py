"""A configured plugin of a connection: where its payloads go, and what happens to a call that ends it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from deepgen.v1 import payload_pb2, plugin_service_pb2

from ..connections import Connection
from ..errors import PluginError, RunError
from ..remote import SECONDS_TO_ANSWER, Busy, Link, Lost, NotConfigured
from ..shared_memory import PAGE, Region
from ..wire_features import LARGEST, SHARED_FROM

ATTEMPTS = 3
"""A batch that ended the plugin so often is not sent again."""
PATIENCE = 300.0
"""Seconds for which a plugin that has too much to do is asked again, mostly every second."""
AROUND = 16
"""Bytes of a message that a payload in it takes beside its own."""
Answer = TypeVar("Answer")


class Instance:
    """A configured plugin of a connection, in use by one thread at a time. After a crash it is configured again."""

    def __init__(self, connection: Connection, request: plugin_service_pb2.ConfigureRequest) -> None:
        self.connection = connection
        self._request = request
        self._request.instance = secrets.token_hex(8)
        self._configured_by: Link | None = None
        self._answer: plugin_service_pb2.ConfigureResponse | None = None
        self._input: Region | None = None
        self._room: Region | None = None
        self._taken, self._inline = 0, 0
        """Bytes of the payloads of a request, in shared memory and in the message itself."""
        connection.instances.add(self)

    @property
    def name(self) -> str:
        """The instance's, for requests."""
        return self._request.instance

    def configured(self) -> plugin_service_pb2.ConfigureResponse:
        """What the plugin said when it was configured; raises like `call`."""
        if self._answer is None:
            self.attempt(lambda link: None, ATTEMPTS)
        assert self._answer is not None
        return self._answer

    def call(
        self, service: str, method: str, make: Callable[[Link], Any], attempts: int = ATTEMPTS
    ) -> tuple[Any, Link]:
        """The answer to a request, which is made anew for each attempt, and who gave it.

        Raises:
            Lost: the plugin was ended as often as it was tried. PluginError: it refused the call.
            RunError: it cannot be reached, or started, any more.
        """
        answer, link = self.attempt(lambda link: link.call(service, method, make(link)), attempts)
        return answer, link

    def attempt(self, ask: Callable[[Link], Answer], attempts: int = ATTEMPTS) -> tuple[Answer, Link]:
        """What `ask` gives of a plugin that is configured, and who gave it; it is asked again where it was ended.

        Raises:
            As `call`, and what `ask` raises.
        """
        failed, busy, since = 0, 0, 0.0
        while True:
            link = self.connection.link
            try:
                self._taken, self._inline = 0, 0
                self._configure(link)
                answer = ask(link)
                self.connection.succeeded()
                return answer, link
            except Busy as error:
                busy += 1
                since = since or time.monotonic()
                if time.monotonic() - since > PATIENCE:
                    where = f"--plugin {self.connection.endpoint.text}"
                    raise RunError(f"{where}: has been too busy for minutes: {error}") from None
                time.sleep(min(1.0, 0.02 * 2**busy))
            except NotConfigured as error:  # a server that was started again behind an open connection
                failed += 1
                self._configured_by = None
                if link.process is None:
                    self.connection.lost(link, error)
                if failed >= attempts:
                    raise
            except Lost as error:
                failed += 1
                self.connection.lost(link, error)
                if failed >= attempts:
                    raise

    def _configure(self, link: Link) -> None:
        if self._configured_by is not link:
            self._answer = link.call("plugin", "Configure", self._request, SECONDS_TO_ANSWER)
            self._configured_by = link

    def release(self) -> None:
        """Has the plugin forget it, where that is still there; it is configured again when it is used again."""
        link, self._configured_by = self._configured_by, None
        if link is not None:
            with suppress(Lost, Busy, PluginError):
                link.call("plugin", "Release", plugin_service_pb2.ReleaseRequest(instance=self.name), 1.0)

    def place(self, link: Link, data: Any, into: payload_pb2.Payload | None = None) -> payload_pb2.Payload:
        """A payload for a request, inline, in shared memory or put aside, as its size asks for.

        Filled in its place in a request it is not copied again.
        """
        made = payload_pb2.Payload() if into is None else into
        size = len(data)
        if size >= SHARED_FROM and link.shares_memory:
            self._input = self._input or Region()
            made.shared.CopyFrom(self._input.write(data, self._taken))
            self._taken += -(-size // PAGE) * PAGE
        elif self._inline + size <= LARGEST:  # there may be several, as states to merge
            made.arrow = bytes(data)
            self._inline += size + AROUND
        else:
            made.parts = link.put(data)
        return made

    def room(self, link: Link) -> payload_pb2.SharedMemory | None:
        """Memory for the answer, where memory is shared; it takes none before it is written to."""
        if not link.shares_memory:
            return None
        if self._room is None:
            self._room = Region()
            self._room.grow(LARGEST)
        return self._room.room()

    def data(self, link: Link, payload: payload_pb2.Payload) -> bytes:
        """The bytes of a payload in an answer.

        Raises:
            PluginError: there is none, or it is in memory that was not given for it.
        """
        place = payload.WhichOneof("place")
        if place == "arrow":
            return payload.arrow
        if place == "parts":
            return link.get(payload.parts)
        try:
            if place == "shared" and self._room is not None:
                return self._room.read(payload.shared)
        except ValueError as error:
            raise PluginError(f"--plugin {self.connection.endpoint.text}: answered with {error}") from None
        raise PluginError(f"--plugin {self.connection.endpoint.text}: gave an answer without a payload")
