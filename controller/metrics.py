"""Loss, scores and speeds of a job, as its run writes them to events.jsonl in the run folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf import json_format

from deepgen.v1.controller_pb2 import MetricPoints, StreamMetricsRequest
from deepgen.v1.event_pb2 import Event
from deepgen.v1.job_pb2 import Job

from ..kernel.events import FILE
from .feed import Feed
from .files import open_inside
from .jobs import ENDED, job_id
from .launch import RUN
from .refusals import Refusal, invalid
from .security import require_sight
from .store import Store

BLOCK = 1 << 20
"""Bytes that are read at once."""
POLL_SECONDS = 0.25


class Points:
    """Reads what is new in a growing file of events."""

    def __init__(self, state: Path, identity: str, after: int) -> None:
        self._state = state
        self._parts = ("jobs", identity, RUN, FILE)
        self._after = after
        self._offset = 0
        self._inode = 0

    def read(self) -> tuple[list[MetricPoints], bool]:
        """The points of the next whole lines, and whether there may be more at once."""
        try:
            file = open_inside(self._state, self._parts)
        except FileNotFoundError:
            return [], False
        try:
            known = os.fstat(file)
            if self._inode not in (0, known.st_ino) or known.st_size < self._offset:
                self._after = self._offset = 0  # the run was started over, and counts anew
            self._inode = known.st_ino
            block = os.pread(file, BLOCK, self._offset)
        finally:
            os.close(file)
        whole = block[: block.rfind(b"\n") + 1]
        if not whole and len(block) == BLOCK:  # a line longer than that is no event of ours
            self._offset += BLOCK
            return [], True
        self._offset += len(whole)
        points = []
        for line in whole.splitlines():
            if b'"progress"' not in line and b'"scored"' not in line:
                continue
            try:
                event = json_format.Parse(line, Event(), ignore_unknown_fields=True)
            except (json_format.ParseError, UnicodeDecodeError):
                continue
            if event.sequence > self._after and (point := _point(event)) is not None:
                self._after = event.sequence
                points.append(point)
        return points, len(block) == BLOCK


async def stream_metrics(
    store: Store, state: Path, feed: Feed, request: StreamMetricsRequest
) -> AsyncIterator[MetricPoints]:
    """The points after a sequence number; with `follow` until the job has ended, which `end` says."""
    identity = job_id(request.name)
    if request.after_sequence < 0:
        raise invalid("after_sequence", f"after_sequence = {request.after_sequence} is below 0, which is the beginning")
    points = Points(state, identity, request.after_sequence)
    last = request.after_sequence
    while True:
        feed.check()
        job = find_job(store, identity)
        require_sight(job.owner, job.name, "metrics")
        more = True
        while more:
            found, more = await asyncio.to_thread(points.read)
            for point in found:
                last = point.sequence
                yield point
        if job.state in ENDED:
            yield MetricPoints(sequence=last, end=True)
            return
        if not request.follow:
            return
        await asyncio.sleep(POLL_SECONDS)


def find_job(store: Store, identity: str) -> Job:
    """The job of an ID. Raises Refusal (NOT_FOUND)."""
    with store.reader() as reader:
        job = reader.job(identity)
    if job is None:
        raise Refusal(
            "NOT_FOUND", f"there is no job jobs/{identity}", fields=[("name", f"there is no job jobs/{identity}")]
        )
    return job


def _point(event: Event) -> MetricPoints | None:
    """The values of an event; None when it has none."""
    if event.HasField("scored"):
        scored = event.scored
        made = MetricPoints(stage="eval", step=scored.step, epoch=scored.epoch, values=scored.scores)
    elif event.HasField("progress"):
        progress = event.progress
        made = MetricPoints(stage=progress.stage, step=progress.step, epoch=progress.epoch, values=progress.values)
        for name in ("rows_per_second", "tokens_per_second"):
            if (speed := float(getattr(progress, name))) > 0:
                made.values[name] = speed
    else:
        return None
    if not made.values:
        return None
    made.sequence = event.sequence
    made.time.CopyFrom(event.time)
    return made
