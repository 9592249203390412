"""The server under test: how it is reached, and started again where a check has ended it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from deepgen.v1.payload_pb2 import Payload
from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.plugin_service_pb2 import (
    DescribeRequest,
    HandshakeRequest,
    HandshakeResponse,
    ProbeRequest,
)

from ...kernel.endpoints import Endpoint, at_socket
from ...kernel.errors import PluginError
from ...kernel.remote import unauthenticated, unreachable
from ...kernel.wire_features import LINES, PARTS, SHARED_MEMORY, TOKENIZER
from . import parcels
from .case import Case, spelled
from .checks import Skipped, Wrong
from .far import Far
from .load import of_size, send
from .program import Program
from .wire import MIB, Refused, Wire

FEATURES = (SHARED_MEMORY, PARTS, TOKENIZER, LINES)
VERSION = 1
TRIED = 32 * 1024
"""Bytes on which the speed of a plugin is seen."""
SECONDS = 5.0
"""Of a megabyte; a plugin that takes longer is not sent several of them."""
PATIENCE = 3.0
"""Seconds in which it is tried again: what is loaded on first use takes its time, and the machine may be busy."""
NONE = "none of its plugins takes rows with these options, or a megabyte in a few seconds"


class Server:
    """A plugin program that is started here, or a server that runs already."""

    def __init__(self, endpoint: Endpoint, options: dict[str, str], quick: bool = False) -> None:
        self.endpoint, self.options, self.quick = endpoint, options, quick
        self.slow: Any = None
        """The plugin that takes longest, once it is known."""
        self.program: Program | None = None
        self.restarts = 0
        self._wire: Wire | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is a program that may be ended and started again."""
        return self.endpoint.scheme == "exec"

    @property
    def wire(self) -> Wire:
        """A connection, after a handshake; to a new program where the last one has ended."""
        if self.is_ours and self.program is not None and not self.program.is_running:
            self.close()
            self.restarts += 1
        if self._wire is None:
            if self.is_ours:
                self.program = Program(self.endpoint.command)
                self._wire = connected(self.program)
            else:
                self._wire = standing(self.endpoint)
            try:
                self._wire.ask(self._wire.plugin.Handshake, greeting(), seconds=20)
            except Refused as refused:
                self.close()
                raise Wrong("Handshake with version 1", refused, "an answer") from None
        return self._wire

    @contextmanager
    def another(self) -> Iterator[tuple[Program, Wire]]:
        """A further program, for checks that end it.

        Raises:
            Skipped: it was not started here.
        """
        if not self.is_ours:
            raise Skipped("it was not started by this command, so it is not ended")
        program = Program(self.endpoint.command)
        wire = connected(program)
        try:
            wire.ask(wire.plugin.Handshake, greeting(), seconds=20)
            yield program, wire
        finally:
            wire.close()
            program.end()

    @cached_property
    def greeted(self) -> HandshakeResponse:
        """What it says of itself."""
        return self.wire.ask(self.wire.plugin.Handshake, greeting())

    @property
    def features(self) -> frozenset[str]:
        """What both have."""
        return frozenset(self.greeted.features) & frozenset(FEATURES)

    @cached_property
    def plugins(self) -> list[PluginDescriptor]:
        """What it offers."""
        return list(self.wire.ask(self.wire.plugin.Describe, DescribeRequest()).plugins)

    @property
    def pid(self) -> int | None:
        """The process, where it is known."""
        return self.program.pid if self.program is not None else None

    def case(self, descriptor: PluginDescriptor) -> Case:
        """One of its plugins."""
        return Case(Far(self, descriptor), spelled(descriptor, self.options), self.quick)

    @cached_property
    def ready(self) -> list[Case]:
        """The plugins that take rows, many at once, and can be configured."""
        return [case for case in map(self.case, self.plugins) if _is_ready(case)]

    @cached_property
    def able(self) -> list[Case]:
        """The first of them of each kind."""
        found: dict[str, Case] = {}
        for case in map(self.case, self.plugins):
            if case.kind not in found and _is_ready(case):
                found[case.kind] = case
        return list(found.values())

    @property
    def takers(self) -> list[Case]:
        """The same, for a check that has nothing to look at without one.

        Raises:
            Skipped: there is none.
        """
        if not self.able:
            raise Skipped(NONE)
        return self.able

    @property
    def some(self) -> Case:
        """The first of them; raises like `takers`."""
        return self.takers[0]

    def probe(self) -> None:
        """Refuses a server that is not well any more."""
        self.wire.ask(self.wire.plugin.Probe, ProbeRequest(), seconds=20)

    def close(self) -> None:
        """Ends the connection, and the program that was started here."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self.program is not None:
            self.program.end()
            self.program = None


def _is_ready(case: Case) -> bool:
    """Whether it takes rows, and a megabyte of them in a few seconds, as a model behind it may not."""
    if case.kind not in ("processor", "metric", "outputter"):
        return False
    try:
        if not (case.main if case.kind != "processor" else case.sample):
            return False
    except (Skipped, Wrong):  # checks of its own say so
        return False
    rows, first = Payload(arrow=parcels.batch(of_size(case, TRIED))), time.monotonic()
    for tries in itertools.count():
        begin = time.monotonic()
        send(case, rows)
        end = time.monotonic()
        if end - begin < SECONDS * TRIED / MIB:
            return True
        if tries and end - first > PATIENCE:
            break
    return False


def greeting(**more: Any) -> HandshakeRequest:
    """A handshake as the kernel's."""
    said = {"protocol_versions": [VERSION], "host": "deepgen plugin check", "features": FEATURES}
    return HandshakeRequest(**{**said, **more})


def connected(program: Program) -> Wire:
    """A connection to a program."""
    return Wire(at_socket(program.socket), program.token)


def reach(endpoint: Endpoint) -> None:
    """Refuses a server that runs already and cannot be asked at all; raises like `standing`."""
    if endpoint.scheme != "exec":
        standing(endpoint).close()


def standing(endpoint: Endpoint) -> Wire:
    """A connection to a server that runs already.

    Raises:
        PluginError: nobody answers there, or it wants another token; the words are those of a run.
    """
    token = endpoint.token()
    wire = Wire(endpoint.address, token, endpoint.authority(), secure=endpoint.scheme == "grpcs")
    refused = wire.refusal(wire.plugin.Handshake, greeting())
    if refused is not None and refused.code in ("UNAVAILABLE", "UNAUTHENTICATED"):
        wire.close()
        if refused.code == "UNAUTHENTICATED":
            raise PluginError(f"--plugin {endpoint.text}: {unauthenticated(endpoint, bool(token))}")
        raise PluginError(f"--plugin {endpoint.text}: cannot be reached: {unreachable(endpoint, refused.words)}")
    return wire
