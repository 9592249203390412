"""What the processes of an attempt print, by rank and byte offset, to an end that is said."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepgen.v1.controller_pb2 import LogChunk, StreamLogsRequest
from deepgen.v1.job_pb2 import Attempt, Job

from .feed import Feed
from .files import open_folder, open_inside
from .jobs import ENDED, attempt_number, job_id
from .records import LAUNCHER_LOG, RANK_LOGS
from .refusals import Refusal, invalid
from .security import require_sight
from .store import Store

CHUNK = 32 << 10
"""Bytes of a message: a connection that is cut again and again has to bring whole ones."""
POLL_SECONDS = 0.1
LAUNCHER = -1
_RANK = re.compile(r".*_rank([0-9]+)\.log")


@dataclass
class Log:
    """The log of one rank, and how far it was sent."""

    rank: int
    parts: tuple[str, ...] = ()
    """Its file below the state folder; empty until there is one."""
    offset: int = 0

    def read(self, state: Path) -> bytes:
        """What comes next, at most CHUNK bytes; nothing when there is no more yet."""
        file = self._open(state)
        if file is None:
            return b""
        try:
            return os.pread(file, CHUNK, self.offset)
        finally:
            os.close(file)

    def size(self, state: Path) -> int:
        """Its bytes so far."""
        file = self._open(state)
        if file is None:
            return 0
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def _open(self, state: Path) -> int | None:
        """Opened anew each time: a server holds thousands of logs, and may have a thousand files open."""
        try:
            return open_inside(state, self.parts) if self.parts else None
        except FileNotFoundError:
            return None


async def stream_logs(store: Store, state: Path, feed: Feed, request: StreamLogsRequest) -> AsyncIterator[LogChunk]:
    """The logs of an attempt; with `follow` until it has ended. `end` is set only when it has, and all was sent.

    Raises:
        Refusal: INVALID_ARGUMENT for a rank that the job does not have, OUT_OF_RANGE for an offset behind the end.
    """
    job, number = await _attempt(store, feed, request)
    identity = job_id(job.name)
    if number == 0:
        if job.state in ENDED:
            yield LogChunk(end=True)
        return
    name = f"{job.name}/attempts/{number}"
    home = ("jobs", identity, "attempts", str(number))
    logs = _logs(request, job)
    await asyncio.to_thread(_begin, logs, state, home, request)
    while True:
        feed.check()
        over = _over(store, identity, number)  # before reading: what is written meanwhile is then read
        sent = True
        while sent:
            sent = False
            for log in logs:
                if data := await asyncio.to_thread(log.read, state):
                    yield LogChunk(rank=log.rank, offset=log.offset, data=data, attempt=name)
                    log.offset += len(data)
                    sent = True
        if over:
            yield LogChunk(attempt=name, end=True)
            return
        if not request.follow:
            return
        await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(_find, logs, state, home)


async def _attempt(store: Store, feed: Feed, request: StreamLogsRequest) -> tuple[Job, int]:
    """The job, and the number of the attempt that is meant; 0 when there is none and none is waited for."""
    identity, wanted = job_id(request.name), attempt_number(request.name)
    while True:
        change = feed.next()
        with store.reader() as reader:
            job = reader.job(identity)
        if job is None:
            raise Refusal("NOT_FOUND", f"there is no job jobs/{identity}")
        require_sight(job.owner, job.name, "logs")
        if wanted > job.attempt:
            raise Refusal("NOT_FOUND", f"there is no {request.name}; the newest attempt is number {job.attempt}")
        if wanted or job.attempt or not request.follow or job.state in ENDED:
            return job, wanted or job.attempt
        await feed.wait(change, 60)


def _over(store: Store, identity: str, number: int) -> bool:
    with store.reader() as reader:
        attempt: Attempt | None = reader.attempt(identity, number)
    if attempt is None:
        raise Refusal("NOT_FOUND", f"there is no attempt {number} of jobs/{identity}; it may have been deleted")
    return attempt.HasField("end_time")


def _logs(request: StreamLogsRequest, job: Job) -> list[Log]:
    count = job.spec.ranks or 1
    for place, rank in enumerate(request.ranks):
        if not LAUNCHER <= rank < count:
            text = f"rank {rank} is none of {job.name}; it has 0 to {count - 1}, and -1 for the launcher"
            raise invalid(f"ranks[{place}]", text)
    ranks = list(dict.fromkeys(request.ranks)) or [LAUNCHER, *range(count)]
    offsets = {cursor.rank: cursor.offset for cursor in request.cursors}
    for place, cursor in enumerate(request.cursors):
        if cursor.offset < 0:
            raise invalid(f"cursors[{place}].offset", f"offset {cursor.offset} is below 0")
    if request.tail_bytes < 0:
        raise invalid("tail_bytes", f"tail_bytes = {request.tail_bytes} is below 0")
    return [Log(rank, offset=offsets.get(rank, 0)) for rank in ranks]


def _begin(logs: Sequence[Log], state: Path, home: tuple[str, ...], request: StreamLogsRequest) -> None:
    """Finds the files, and where to begin in them."""
    _find(logs, state, home)
    named = {cursor.rank for cursor in request.cursors}
    for log in logs:
        if log.offset or (request.tail_bytes and log.rank not in named):
            size = log.size(state)
            if log.offset > size:
                text = f"the log of rank {log.rank} has {size} bytes, and the cursor is at {log.offset}"
                raise Refusal("OUT_OF_RANGE", text, reason="BEHIND_END", facts={"size": str(size)})
            if log.rank not in named:
                log.offset = max(0, size - request.tail_bytes)


def _find(logs: Sequence[Log], state: Path, home: tuple[str, ...]) -> None:
    """The launcher names the files of the ranks after the moment it starts them."""
    if all(log.parts for log in logs):
        return
    found: dict[int, tuple[str, ...]] = {LAUNCHER: (*home, LAUNCHER_LOG)}
    try:
        folder = open_folder(state, (*home, RANK_LOGS))
    except FileNotFoundError:
        names: list[str] = []
    else:
        try:
            names = sorted(os.listdir(folder), reverse=True)
        finally:
            os.close(folder)
    for name in names:
        if match := _RANK.fullmatch(name):
            found[int(match[1])] = (*home, RANK_LOGS, name)
    for log in logs:
        log.parts = log.parts or found.get(log.rank, ())
