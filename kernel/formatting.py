"""Formats rows of the result file: in this process, or in workers of their own that keep the order."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import registry, siblings
from .contracts import Outputter, Predictions
from .endpoints import is_endpoint
from .errors import DeepgenError, PluginError, RunError
from .options import build, options_of
from .stand_ins.loading import load

if TYPE_CHECKING:
    import numpy as np

AHEAD = 2
"""Batches that wait or are worked on, for each worker: the next one is there when the one before it is done."""


@dataclass(frozen=True)
class Formatted:
    """Some rows as the outputter wrote them, one behind the other."""

    rows: np.ndarray
    """[rows] int64: row numbers in the input."""
    data: bytes
    lengths: np.ndarray
    """[rows] int64: bytes of each row."""


def formatted(outputter: Outputter, predictions: Predictions) -> Formatted:
    """The rows of some predictions.

    Raises:
        PluginError: the outputter did not give whole lines, or bytes, for each row.
        RunError: the outputter failed.
    """
    import numpy as np

    rows = blocks_of(outputter, predictions)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return Formatted(np.array(predictions.rows, np.int64), b"".join(rows), lengths)


def blocks_of(outputter: Outputter, predictions: Predictions) -> list[bytes]:
    """What the outputter wrote of each row; raises like `formatted`."""
    try:
        blocks = outputter.format(predictions)
    except DeepgenError:
        raise
    except (Exception, SystemExit) as error:
        raise RunError(f"outputter '{outputter.name}' failed: {type(error).__name__}: {error}") from error
    if len(blocks) != len(predictions.rows):
        raise PluginError(
            f"outputter '{outputter.name}' gave {len(blocks)} strings for {len(predictions.rows)} rows; "
            "one a row is right"
        )
    if odd := [type(block).__name__ for block in blocks if not isinstance(block, str | bytes)]:
        raise PluginError(f"outputter '{outputter.name}' gave a row that is a {odd[0]}; text or bytes are right")
    encoded = [block.encode() if isinstance(block, str) else block for block in blocks]
    if not all(line.endswith(b"\n") for block, line in zip(blocks, encoded, strict=True) if isinstance(block, str)):
        raise PluginError(f"outputter '{outputter.name}' gave a row that does not end in a newline")
    return encoded


class Workers:
    """Processes that format batches of predictions. What they made is given back in the order that it was asked for.

    Each is asked by a thread of its own. A worker whose rank is gone ends, and a rank whose worker was killed stops.
    """

    def __init__(self, outputter: Outputter, plugins: Sequence[str], count: int) -> None:
        """Starts them; they find the outputter by its name and make one of their own with the same options.

        Args:
            outputter: registered, in the tree or by one of `plugins`.
            plugins: those of the scene; of plugins in other processes, they reach the outputter alone.
            count: how many.
        """
        names = [option.name for option in options_of(type(outputter), f"outputter {outputter.name}")]
        self.name = outputter.name
        endpoint = outputter.elsewhere.endpoint if outputter.elsewhere is not None else None
        needed = tuple(one for one in plugins if one == endpoint or not is_endpoint(one))
        self._what = (needed, outputter.name, {name: vars(outputter)[name] for name in names})
        self._most = AHEAD * count
        self._processes = [siblings.start(work) for _ in range(count)]
        self._free = deque(self._processes)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(count, "outputter")
        self._waiting: deque[Future[Formatted]] = deque()

    def put(self, predictions: Predictions) -> Iterator[Formatted]:
        """Hands over some predictions; gives what is ready by now, and waits where too much would be under way.

        Raises:
            PluginError, SceneError, RunError: as the outputter raised it; RunError also where a worker was ended.
        """
        self._waiting.append(self._pool.submit(self._ask, predictions))
        while self._waiting and (len(self._waiting) > self._most or self._waiting[0].done()):
            yield self._waiting.popleft().result()

    def finish(self) -> Iterator[Formatted]:
        """Gives the rest and ends the workers; raises like `put`."""
        while self._waiting:
            yield self._waiting.popleft().result()
        self.kill()

    def kill(self) -> None:
        """Ends the workers at once."""
        for process in self._processes:
            process.kill()
        self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            siblings.end(process)

    def _ask(self, predictions: Predictions) -> Formatted:
        """Lets this thread's worker format, and waits for it."""
        first = not hasattr(self._own, "process")
        if first:
            self._own.process = self._free.popleft()
        process: subprocess.Popen[bytes] = self._own.process
        try:
            if first:
                siblings.send(self._what, process.stdin)
            siblings.send(predictions, process.stdin)
            answer = siblings.receive(process.stdout)
        except siblings.ENDED:
            raise RunError(f"a worker of outputter '{self.name}' was ended by {siblings.cause(process)}") from None
        if isinstance(answer, siblings.Failed):
            answer.throw()
        made: Formatted = answer
        return made


def work() -> None:
    """A worker: reads what it is to format from its standard input and answers on its standard output."""
    requests, answers = siblings.opened()
    outputter: Any = None
    try:
        plugins, name, options = siblings.receive(requests)
        while True:
            predictions = siblings.receive(requests)
            answer: Any
            try:
                if outputter is None:
                    for file in plugins:
                        load(file)
                    plugin = registry.find("outputter", name).plugin
                    outputter = build(plugin, options, f"outputter {name}")
                answer = formatted(outputter, predictions)
            except DeepgenError as error:
                answer = siblings.Failed.of(error)
            siblings.send(answer, answers)
    except EOFError:
        return
