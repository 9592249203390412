"""Joins the rows of many requests in batches: while the model works on one, the next one gathers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...kernel.errors import DeepgenError


@dataclass(frozen=True)
class Piece:
    """Some rows of one request."""

    rows: Any
    """As they were asked."""
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class Model(Protocol):
    """What answers batches."""

    def __call__(self, pieces: Sequence[Piece]) -> Sequence[Any]:
        """The answer to each piece."""
        ...


class Full(DeepgenError):
    """Too many rows are waiting."""


class Closed(DeepgenError):
    """No more rows are taken."""


@dataclass(frozen=True)
class Bounds:
    """How rows are gathered."""

    window: float = 0.003
    """Seconds that a row waits for company at an idle model, at most."""
    max_batch: int = 128
    """Rows of a batch, at most."""
    max_waiting: int = 16384
    """Rows that wait, at most, beside those that the model is working on."""


@dataclass(eq=False)
class _Request:
    """The rows of a request that wait, and what was answered of those before them."""

    rows: Any
    count: int
    expires: float
    came: float
    future: Future[list[Any]] = field(default_factory=Future)
    taken: int = 0
    parts: list[Any] = field(default_factory=list)
    answered: int = 0

    @property
    def left(self) -> int:
        """Rows that wait."""
        return self.count - self.taken


class Batcher:
    """Rows that wait for the model, and the thread in which it works.

    One half of a batch goes to whoever waits longest, the other half to whoever asks for the least: a large request
    does not hold up a small one, and neither can starve. What is left of either half is the other's.
    """

    def __init__(
        self, model: Model, bounds: Bounds, seen: Callable[[int, float], None] = lambda rows, seconds: None
    ) -> None:
        """Args:
        model: is called in a thread of its own, with pieces of at most `max_batch` rows together.
        bounds: how rows are gathered.
        seen: is told the rows of each batch, and how long it took in seconds.
        """
        self._model, self._bounds, self._seen = model, bounds, seen
        self._waiting: list[_Request] = []
        self._rows = 0
        self._left: list[Future[None]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._rows

    def has_room(self, count: int) -> bool:
        """Whether so many rows may wait now; more than may ever wait are refused when they are asked."""
        return self._rows + count <= self._bounds.max_waiting or count > self._bounds.max_waiting or self._closed

    def next_batch(self) -> Future[None]:
        """Done when rows have left the queue for the next time."""
        future: Future[None] = Future()
        with self._changed:
            if self._waiting:
                self._left.append(future)
            else:
                future.set_result(None)
        return future

    def ask(self, rows: Any, count: int, expires: float = float("inf")) -> Future[list[Any]]:
        """The answers to the pieces that some rows are cut into, in order. Cancel it to take them back.

        Args:
            rows: as the model understands them.
            count: how many.
            expires: on the clock of time.monotonic, when nobody wants the answer any more; then TimeoutError.

        Raises:
            Full: too many rows are waiting.
            Closed: it is being closed.
        """
        request = _Request(rows, count, expires, time.monotonic())
        with self._changed:
            if self._closed:
                raise Closed("the server is stopping; ask another one")
            most = self._bounds.max_waiting
            if self._rows + count > most:
                self._sweep()
            if self._rows + count > most:
                what = f"{self._rows} rows are waiting, and these are {count}; at most {most} may wait"
                raise Full(f"{what}: ask again later" if count <= most else f"{what}: ask for fewer at a time")
            self._waiting.append(request)
            self._rows += count
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Takes no more rows, and returns when those that wait are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._gather():
                    return
                batch = self._take()
                left, self._left = self._left, []
            for future in left:
                if future.set_running_or_notify_cancel():
                    future.set_result(None)
            if batch:
                self._answer(batch)

    def _gather(self) -> bool:
        """Waits until a batch is full, or its oldest row has waited for the window; False: there will be none."""
        while not self._waiting:
            if self._closed:
                return False
            self._changed.wait()
        start = self._waiting[0].came + self._bounds.window
        while self._rows < self._bounds.max_batch and not self._closed:
            left = start - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)
        return True

    def _sweep(self) -> None:
        """Drops what nobody wants any more."""
        now = time.monotonic()
        for request in self._waiting:
            if request.expires <= now and not request.future.done():
                request.future.set_exception(TimeoutError("nobody waits for the answer any more"))
        self._waiting = [request for request in self._waiting if not request.future.done()]
        self._rows = sum(request.left for request in self._waiting)

    def _take(self) -> list[tuple[_Request, Piece]]:
        """The next batch."""
        self._sweep()
        room = min(self._bounds.max_batch, self._rows)
        wanted: dict[_Request, int] = dict.fromkeys(self._waiting, 0)

        def give(requests: Sequence[_Request], most: int) -> int:
            for request in requests:
                given = min(request.left - wanted[request], most)
                wanted[request] += given
                most -= given
                if not most:
                    break
            return most

        half = room - room // 2
        left = give(self._waiting, half)
        left = give(sorted(self._waiting, key=lambda request: request.left), room - half + left)
        assert left == 0, "as many rows wait"
        batch = []
        for request, count in wanted.items():
            if count:
                batch.append((request, Piece(request.rows, request.taken, request.taken + count)))
                request.taken += count
        self._waiting = [request for request in self._waiting if request.left]
        self._rows -= room
        return batch

    def _answer(self, batch: Sequence[tuple[_Request, Piece]]) -> None:
        begin = time.monotonic()
        answers: Sequence[Any]
        try:
            answers = self._model([piece for _, piece in batch])
        except Exception as error:
            answers = [error] if len(batch) == 1 else [self._alone(piece) for _, piece in batch]
        self._seen(sum(len(piece) for _, piece in batch), time.monotonic() - begin)
        for (request, piece), answer in zip(batch, answers, strict=True):
            self._deliver(request, piece, answer)

    def _alone(self, piece: Piece) -> Any:
        """The answer to one piece of a batch that failed: the rows of one request must not spoil those of others."""
        try:
            return self._model([piece])[0]
        except Exception as error:
            return error

    def _deliver(self, request: _Request, piece: Piece, answer: Any) -> None:
        future = request.future
        request.parts.append(answer)
        request.answered += len(piece)
        failed = isinstance(answer, Exception)
        if (failed or request.answered == request.count) and not future.done():
            if not future.set_running_or_notify_cancel():
                return
            if failed:
                future.set_exception(answer)
            else:
                future.set_result(request.parts)
