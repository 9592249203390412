"""Joins the rows of many requests in batches: while the model works on one, the next one gathers.

Clients that wait for their answer before they ask again would share one large batch, and then the model had nothing to
do while they are answered, or a large and a small one in turn, and then there was little time to answer those of the
large one. So a model that goes from one batch to the next takes half of the rows that are under way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ...kernel.errors import DeepgenError, RunError
from .waiting import Piece, Request, Waiting

Model = Callable[[Sequence[Piece]], Iterable[tuple[int, Any]]]
"""Gives the answers to the pieces of a batch, in any order, each with its place."""


class Closed(DeepgenError):
    """No more rows are taken."""


HALVED_FROM = 16
"""Rows under way from which on half of them are taken; fewer are not worth another forward pass."""


@dataclass(frozen=True)
class Bounds:
    """How rows are gathered."""

    window: float = 0.003
    """Seconds that a row waits for company at an idle model, at most."""
    max_batch: int = 128
    """Rows of a batch, at most."""
    max_waiting: int = 16384
    """Rows that wait, at most, beside those that the model is working on."""


class Batcher:
    """The rows that wait for the model, and the thread in which it works."""

    def __init__(
        self, model: Model, bounds: Bounds, seen: Callable[[int, float], None] = lambda rows, seconds: None
    ) -> None:
        """Args:
        model: is called in a thread of its own, with pieces of at most `max_batch` rows together.
        bounds: how rows are gathered.
        seen: is told the rows of each batch, and how long it took in seconds.
        """
        self._model, self._bounds, self._seen = model, bounds, seen
        self._waiting = Waiting(bounds.max_waiting)
        self._passed: list[Future[None]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._waiting.rows

    @property
    def portion(self) -> int:
        """Rows that one who waits for room asks for at a time."""
        return max(1, self._bounds.max_waiting // 4)

    def has_room(self, count: int) -> bool:
        """Whether so many rows may wait now; more than may ever wait are refused when they are asked."""
        return self._waiting.has_room(count) or count > self._bounds.max_waiting or self._closed

    def next_batch(self) -> Future[None]:
        """Done when rows have left the queue for the next time."""
        future: Future[None] = Future()
        with self._changed:
            if self._waiting.rows:
                self._passed.append(future)
            else:
                future.set_result(None)
        return future

    def ask(self, rows: Any, count: int, expires: float = float("inf")) -> Future[list[Any]]:
        """The answers to the pieces that some rows are cut into, in order. Cancel it to take them back.

        Args:
            rows: as the model understands them.
            count: how many.
            expires: on the clock of time.monotonic, when nobody wants the answer any more; then it is Late.

        Raises:
            Full: too many rows are waiting.
            Closed: it is being closed.
        """
        request = Request(rows, count, expires, time.monotonic())
        with self._changed:
            if self._closed:
                raise Closed("the server is stopping; ask another one")
            self._waiting.add(request)
            self._changed.notify()
        return request.future

    def close(self) -> None:
        """Takes no more rows, and returns when those that wait are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        before = left = 0
        while True:
            with self._changed:
                idle = not self._waiting.rows
                if not self._gather():
                    return
                waiting = self._waiting.rows
                most = self._bounds.max_batch
                halved = not idle and waiting + before >= HALVED_FROM
                if halved:
                    most = min(most, -(-(waiting + before) // 2))
                batch = self._waiting.take(most, left)
                # of less than the most, it is at least as many as are left, and what is left is all in the next one
                left = self._waiting.rows if halved and most < self._bounds.max_batch else 0
                before = sum(len(piece) for _, piece in batch)
                passed, self._passed = self._passed, []
            for future in passed:
                if future.set_running_or_notify_cancel():
                    future.set_result(None)
            if batch:
                self._answer(batch)

    def _gather(self) -> bool:
        """Waits until a batch is full, or its oldest row has waited for the window; False: there will be none."""
        while (oldest := self._waiting.oldest) is None:
            if self._closed:
                return False
            self._changed.wait()
        while self._waiting.rows < self._bounds.max_batch and not self._closed:
            left = oldest + self._bounds.window - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)
        return True

    def _answer(self, batch: Sequence[tuple[Request, Piece]]) -> None:
        begin = time.monotonic()
        left = dict(enumerate(batch))
        try:
            for place, answer in self._model([piece for _, piece in batch]):
                request, piece = left.pop(place)
                request.deliver(piece, answer)
        except BaseException as error:
            for request, piece in left.values():
                request.deliver(piece, _told(error) if len(batch) == 1 else self._alone(piece))
        self._seen(sum(len(piece) for _, piece in batch), time.monotonic() - begin)

    def _alone(self, piece: Piece) -> Any:
        """The answer to one piece of a batch that failed: the rows of one request must not spoil those of others."""
        try:
            return next(iter(self._model([piece])))[1]
        except BaseException as error:
            return _told(error)


def _told(error: BaseException) -> Exception:
    """An exception that ends a request, and not whoever waits for it: SystemExit and a panic of Rust's are none."""
    return error if isinstance(error, Exception) else RunError(f"{type(error).__name__}: {error}")
