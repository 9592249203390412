"""Whose turn it is at an instance: its calls come one at a time, and none waits for ever behind one that hangs.

A thread cannot be ended. So a call that nobody waits for any more keeps its plugin object, and the instance goes on
with another one, which is made like it: a plugin keeps nothing between two calls.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from ...kernel.contracts import Plugin
from .refusals import Refused

LONGEST_CALL = 1800
"""Seconds after which a call is taken to hang."""
LONGEST_WAIT = 60.0
"""Seconds for which a caller waits behind another one's call."""
GRACE = 10.0
"""Seconds that a call has to come to its end once nobody waits for it."""
MOST = 8
"""Calls of one plugin that hang while nobody waits for them; then it is refused, before all threads hang."""
STEP = 0.2


@dataclass(eq=False)
class _Call:
    """One that a plugin object is at."""

    instance: str
    plugin: Plugin
    begun: float = field(default_factory=time.monotonic)
    left: float = math.inf
    """When the caller went."""

    def __str__(self) -> str:
        since = time.monotonic() - self.begun
        return f"instance '{self.instance}' ({title(self.plugin)}) has been at one call for {since:.0f} s"


@dataclass(eq=False)
class _Seat:
    """A plugin object, and the call that it is at."""

    plugin: Plugin
    lock: threading.Lock = field(default_factory=threading.Lock)
    call: _Call | None = None


class Turns:
    """The calls that all instances of a server are at."""

    def __init__(self, longest: float = LONGEST_CALL) -> None:
        """`longest` in seconds: a call that takes longer hangs."""
        self._longest = longest
        self.longest_wait, self._grace = min(LONGEST_WAIT, longest), min(GRACE, longest)
        self._calls: set[_Call] = set()
        self._lock = threading.Lock()

    def trouble(self) -> str:
        """Why this server is to be restarted; empty where it is well."""
        now = time.monotonic()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            if call.left > now and now - call.begun > self._longest:
                return f"{call}, longer than --longest-call {self._longest:g}; restart this server"
        return next(filter(None, (self.refusal(call.plugin) for call in calls)), "")

    def refusal(self, plugin: Plugin) -> str:
        """Why a plugin is not called any more; empty where it is."""
        now = time.monotonic()
        with self._lock:
            left = [call.left for call in self._calls if type(call.plugin) is type(plugin) and self.is_left(call)]
        if len(left) < MOST:
            return ""
        what = f"{len(left)} calls do not end that nobody waits for any more"
        return f"{title(plugin)} hangs: {what}, the oldest for {now - min(left):.0f} s; restart this server"

    def is_left(self, call: _Call | None) -> bool:
        """Whether it goes on though nobody has waited for it for a while."""
        return call is not None and time.monotonic() - call.left > self._grace

    @contextmanager
    def at(self, call: _Call, context: grpc.ServicerContext) -> Iterator[None]:
        """Knows of a call from its begin to its end."""

        def gone() -> None:
            call.left = time.monotonic()

        with self._lock:
            self._calls.add(call)
        if not context.add_callback(gone):
            gone()
        try:
            yield
        finally:
            with self._lock:
                self._calls.discard(call)


class Instance:
    """A configured plugin, under the name that the host gave it."""

    def __init__(self, name: str, make: Callable[[], Plugin], turns: Turns) -> None:
        """`make` gives the plugin, and another one like it where that hangs; what it raises is raised."""
        self.name = name
        self.used = time.monotonic()
        """When it was last asked for."""
        self._make, self._turns = make, turns
        self._seat = _Seat(make())
        self._lock = threading.Lock()

    @property
    def plugin(self) -> Plugin:
        """To look at; to call it, wait for a turn."""
        return self._seat.plugin

    @property
    def is_busy(self) -> bool:
        """Whether it is at a call."""
        return self._seat.lock.locked()

    @contextmanager
    def turn(self, context: grpc.ServicerContext) -> Iterator[Plugin]:
        """The plugin, for this call alone.

        Raises:
            Refused: it is at another call for too long, or hangs again and again; or nobody waits for this one.
        """
        seat = self._free(context)
        seat.call = _Call(self.name, seat.plugin)
        try:
            with self._turns.at(seat.call, context):
                yield seat.plugin
        finally:
            seat.call = None
            seat.lock.release()

    def _free(self, context: grpc.ServicerContext) -> _Seat:
        if words := self._turns.refusal(self.plugin):
            raise Refused(grpc.StatusCode.UNAVAILABLE, words)
        until = time.monotonic() + self._turns.longest_wait
        while True:
            seat = self._seat
            if seat.lock.acquire(timeout=STEP):
                if seat is self._seat:
                    return seat
                seat.lock.release()  # another one has its place
            elif not context.is_active():
                raise Refused(grpc.StatusCode.CANCELLED, "nobody waits for the answer any more")
            elif self._turns.is_left(seat.call):
                self._replace(seat)
            elif time.monotonic() > until:
                what = seat.call or f"instance '{self.name}' ({title(seat.plugin)}) has many calls waiting"
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{what}; ask again later, or restart this server if that call never ends",
                )

    def _replace(self, seat: _Seat) -> None:
        with self._lock:
            if self._seat is seat:
                self._seat = _Seat(self._make())


def title(plugin: Plugin) -> str:
    """What it is called in messages."""
    return f"{plugin.kind} '{plugin.name}'"
