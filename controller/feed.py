"""Tells streams that the store has changed, and that the server is going down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from .refusals import Refusal
from .store import Store


class Feed:
    """Wakes the streams of one event loop after each commit. Many commits in a row wake them once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next = asyncio.Event()
        self._woken = False
        self._closing = False
        self._undo: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Begins to listen, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._undo = self._store.listen(self._heard)

    def next(self) -> asyncio.Event:
        """Set at the next change. To miss none: take it, then read, then wait for it."""
        return self._next

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event, or so many seconds.

        Raises:
            Refusal: UNAVAILABLE, the server is going down; a stream that only ended would look complete.
        """
        self.check()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), max(0.0, seconds))
        self.check()

    def check(self) -> None:
        """Raises Refusal (UNAVAILABLE) when the server is going down."""
        if self._closing:
            raise Refusal(
                "UNAVAILABLE", "the controller is going down; go on from here when it is back", reason="STOPPING"
            )

    def close(self) -> None:
        """Ends all streams."""
        self._closing = True
        self._undo()
        self._wake()

    def _heard(self, newest: int) -> None:
        if not self._woken and self._loop is not None:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._woken = False
        event, self._next = self._next, asyncio.Event()
        event.set()
