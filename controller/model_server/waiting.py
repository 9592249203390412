"""The rows that wait for the model, by request, and which of them are in its next batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ...kernel.errors import DeepgenError


class Full(DeepgenError):
    """Too many rows are waiting."""


class Late(DeepgenError):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Piece:
    """Some rows of one request."""

    rows: Any
    """As they were asked."""
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


@dataclass(eq=False)
class Request:
    """Rows that wait, and what was answered of those before them."""

    rows: Any
    count: int
    expires: float
    """On the clock of time.monotonic."""
    came: float
    future: Future[list[Any]] = field(default_factory=Future)
    taken: int = 0
    parts: dict[int, Any] = field(default_factory=dict)
    """The answers, by the first row."""
    answered: int = 0

    @property
    def left(self) -> int:
        """Rows that wait."""
        return self.count - self.taken

    def deliver(self, piece: Piece, answer: Any) -> None:
        """Takes the answer to a piece, or the exception that it ended with; the future is done with the last one."""
        self.parts[piece.begin] = answer
        self.answered += len(piece)
        failed = isinstance(answer, Exception)
        if not failed and self.answered < self.count:
            return
        if self.future.done() or not self.future.set_running_or_notify_cancel():
            return
        if failed:
            self.future.set_exception(answer)
        else:
            self.future.set_result([self.parts[begin] for begin in sorted(self.parts)])


class Waiting:
    """All rows that wait; one thread at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._requests: list[Request] = []
        self.rows = 0

    @property
    def oldest(self) -> float | None:
        """When the first request came that has rows here."""
        return self._requests[0].came if self._requests else None

    def has_room(self, count: int) -> bool:
        """Whether so many more may wait."""
        return self.rows + count <= self._most

    def add(self, request: Request) -> None:
        """Puts a request at the end.

        Raises:
            Full: too many rows are waiting.
        """
        if not self.has_room(request.count):
            self.sweep()
        if not self.has_room(request.count):
            what = f"{self.rows} rows are waiting, and these are {request.count}; at most {self._most} may wait"
            raise Full(f"{what}: {'ask again later' if request.count <= self._most else 'ask for fewer at a time'}")
        self._requests.append(request)
        self.rows += request.count

    def sweep(self) -> None:
        """Drops what nobody wants any more."""
        now = time.monotonic()
        for request in self._requests:
            late = request.expires <= now and not request.future.done()
            if late and request.future.set_running_or_notify_cancel():
                request.future.set_exception(Late("nobody waits for the answer any more"))
        self._requests = [request for request in self._requests if not request.future.done()]
        self.rows = sum(request.left for request in self._requests)

    def take(self, most: int, oldest: int = 0) -> list[tuple[Request, Piece]]:
        """The next batch, of at most so many rows.

        One half goes to whoever waits longest, the other half to whoever asks for the least: a large request does not
        hold up a small one, and neither can starve. What is left of either half is the other's. `oldest` is how many
        rows whoever waits longest gets at least.
        """
        self.sweep()
        room = min(most, self.rows)
        wanted: dict[Request, int] = {}

        def give(requests: Sequence[Request], rows: int) -> int:
            for request in requests:
                if not rows:
                    break
                given = min(request.left - wanted.get(request, 0), rows)
                wanted[request] = wanted.get(request, 0) + given
                rows -= given
            return rows

        half = min(room, max(room - room // 2, oldest))
        rest = give(self._requests, half)
        give(sorted(self._requests, key=lambda request: request.left), room - half + rest)
        batch = []
        for request, count in wanted.items():
            if count:
                batch.append((request, Piece(request.rows, request.taken, request.taken + count)))
                request.taken += count
        self._requests = [request for request in self._requests if request.left]
        self.rows -= room
        return batch
