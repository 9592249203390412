"""The calls that are worked on, and how each of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from ..refusals import Refusal
from .asking import Context
from .metrics import Metrics

Response = TypeVar("Response")


class Calls:
    """Counts them, for the metrics and for an end that waits for them; make it inside the loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self, context: Context) -> None:
        """A call has begun; it ends when its last answer has left."""
        self._open += 1
        self._none.clear()
        context.add_done_callback(cast(Any, self._end))  # the stubs want a class of theirs

    def _end(self, context: Context) -> None:
        self._open -= 1
        if not self._open:
            self._none.set()

    async def none(self) -> None:
        """Until no call is worked on, and no answer is on its way."""
        await self._none.wait()

    async def ended(self, method: str, answer: Coroutine[Any, Any, Response]) -> Response:
        """The answer to a request; how it ended is counted."""
        outcome = "CANCELLED"
        try:
            made: Any = await answer
            result = made.WhichOneof("result")
            outcome = result if result in ("failure", "bad_rows") else "OK"
            found: Response = made
            return found
        except Refusal as error:
            outcome = error.code
            raise
        except Exception:
            outcome = "INTERNAL"
            raise
        finally:
            self._metrics.request(method, outcome)
