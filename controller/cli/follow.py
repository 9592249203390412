"""Follows a job until it has ended: its states, its progress, what its ranks print. Ctrl-C leaves the job running."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ...kernel.errors import DeepgenError
from .display import ENDED, cut, id_of, is_live, note, plain, print_json, progress_in_full, state_of, width

if TYPE_CHECKING:
    from deepgen.v1.controller_pb2 import JobEvent, LogChunk
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

_LOOK = 1.0
"""Seconds between looks at the progress, which is no event."""
LAUNCHER = -1


def follow(
    client: Client,
    job: Job,
    *,
    logs: bool = True,
    ranks: Sequence[int] = (0,),
    tail: int = 0,
    as_json: bool = False,
    states: bool = True,
) -> int:
    """Shows a job until it has ended and gives its exit code.

    Args:
        logs: what the ranks print, from attempt to attempt; without it only the states.
        tail: begin so many bytes before the end of the first attempt's logs.
        as_json: events and log chunks as JSON, one a line.
        states: say when the state changes.
    """
    try:
        return _Follower(client, job, ranks if logs else None, tail, as_json, states).run()
    except KeyboardInterrupt:
        name = id_of(job)
        note(f"\nthe job goes on; `deepgen logs -f {name}` comes back to it, `deepgen cancel {name}` ends it")
        raise


class _Follower:
    """Joins the streams of a job, which are read by threads, in one place."""

    def __init__(
        self, client: Client, job: Job, ranks: Sequence[int] | None, tail: int, as_json: bool, states: bool
    ) -> None:
        self._client = client
        self._job = job
        self._ranks = ranks
        self._tail = tail
        self._json = as_json
        self._states = states
        self._arrivals: queue.SimpleQueue[JobEvent | LogChunk | DeepgenError | None] = queue.SimpleQueue()
        self._reading = False
        self._attempt = 0
        """The attempt whose logs are read, or were last."""
        self._paper = LogPaper(len(ranks or ()) != 1)
        self._line = StatusLine(is_live() and states and not as_json)

    def run(self) -> int:
        from deepgen.v1.controller_pb2 import LogChunk

        self._start(lambda: self._client.watch(self._job.name, self._job.sequence), ends=False)
        looked = 0.0
        try:
            while True:
                self._next_log()
                if state_of(self._job) in ENDED and not self._reading:
                    break
                if self._line.live and time.monotonic() > looked + _LOOK:
                    looked = time.monotonic()
                    self._look()
                try:
                    arrived = self._arrivals.get(timeout=_LOOK)
                except queue.Empty:
                    continue
                if isinstance(arrived, DeepgenError):
                    raise arrived
                if arrived is None:
                    self._reading = False
                elif isinstance(arrived, LogChunk):
                    self._chunk(arrived)
                else:
                    self._event(arrived)
        finally:
            self._line.clear()
            self._paper.close()
        if self._states and not self._json:
            note(ending(self._job))
        return self._job.exit_code

    def _look(self) -> None:
        """Draws how far the run is."""
        from ..answers import Unreachable

        if self._job.state not in (self._job.RUNNING, self._job.SUSPENDING):
            return
        try:
            at = self._client.get(self._job.name).progress
        except Unreachable:
            return  # the streams wait for it to come back
        self._line.draw(f"{id_of(self._job)}  {progress_in_full(at)}")

    def _next_log(self) -> None:
        """Reads the log of the newest attempt, after that of the one before has ended."""
        if self._ranks is None or self._reading or self._job.attempt <= self._attempt:
            return
        first = self._attempt == 0
        # Who comes late sees the newest attempt; who was there sees each.
        self._attempt = self._job.attempt if first else self._attempt + 1
        name, ranks, tail = f"{self._job.name}/attempts/{self._attempt}", self._ranks, self._tail if first else 0
        self._reading = True
        self._start(lambda: self._client.logs(name, ranks, True, tail), ends=True)

    def _start(self, stream: Callable[[], Iterable[JobEvent] | Iterable[LogChunk]], *, ends: bool) -> None:
        def read() -> None:
            try:
                for message in stream():
                    self._arrivals.put(message)
                if ends:
                    self._arrivals.put(None)
            except DeepgenError as error:
                self._arrivals.put(error)
            except ValueError:
                pass  # the channel was closed: nobody reads any more

        threading.Thread(target=read, daemon=True).start()

    def _chunk(self, chunk: LogChunk) -> None:
        if self._json:
            print_json(chunk)
        elif chunk.data:
            self._line.clear()
            self._paper.write(chunk)

    def _event(self, event: JobEvent) -> None:
        before, self._job = self._job, event.job
        if self._json:
            print_json(event)
        elif self._states and self._job.state != before.state and state_of(self._job) not in ENDED:
            self._line.clear()
            self._paper.close()
            note(sentence(self._job))


class LogPaper:
    """Standard output for logs: byte by byte for one rank, whole lines with the rank before them for several."""

    def __init__(self, several: bool) -> None:
        self._several = several
        self._parts: dict[int, bytes] = {}

    def write(self, chunk: LogChunk) -> None:
        """Prints what can be printed."""
        sys.stdout.flush()
        if not self._several:
            sys.stdout.buffer.write(chunk.data)
        else:
            *lines, rest = (self._parts.pop(chunk.rank, b"") + chunk.data).split(b"\n")
            for line in lines:
                sys.stdout.buffer.write(_mark(chunk.rank) + line + b"\n")
            if rest:
                self._parts[chunk.rank] = rest
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """Prints the lines that have no end yet."""
        for rank, line in self._parts.items():
            sys.stdout.buffer.write(_mark(rank) + line + b"\n")
        self._parts.clear()
        sys.stdout.buffer.flush()


class StatusLine:
    """A line under everything else that is drawn again and again."""

    def __init__(self, live: bool) -> None:
        self.live = live
        self._drawn = False

    def draw(self, text: str) -> None:
        """Shows the text in place of the one before."""
        print(f"\r\x1b[K{cut(plain(text), width(sys.stderr))}", end="", file=sys.stderr, flush=True)
        self._drawn = True

    def clear(self) -> None:
        """Takes the line away."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = False


def sentence(job: Job) -> str:
    """A job's state with the reason."""
    reason = plain(job.state_reason)
    hint = f"; `deepgen resume {id_of(job)}` goes on" if job.state == job.SUSPENDED else ""
    attempt = f" (attempt {job.attempt})" if job.state == job.RUNNING and job.attempt > 1 else ""
    return f"{id_of(job)}  {state_of(job)}{attempt}{f'  {reason}' if reason else ''}{hint}"


def ending(job: Job) -> str:
    """How a job ended and what can be typed next."""
    name = id_of(job)
    after = {job.SUCCEEDED: f"deepgen fetch {name}", job.FAILED: f"deepgen show {name}"}.get(job.state)
    return sentence(job) + (f"\n  {after}" if after else "")


def _mark(rank: int) -> bytes:
    return b"launcher | " if rank == LAUNCHER else f"rank {rank} | ".encode()
