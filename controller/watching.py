"""The event watch: every change in order and without gaps, and a sign of life when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from deepgen.v1.controller_pb2 import JobEvent, WatchEventsRequest

from .feed import Feed
from .jobs import job_id
from .refusals import Refusal, invalid
from .security import shown
from .store import Store

HEARTBEAT_SECONDS = 10.0
PAGE = 500


async def watch(
    store: Store, feed: Feed, request: WatchEventsRequest, heartbeat: float = HEARTBEAT_SECONDS
) -> AsyncIterator[JobEvent]:
    """The events after a sequence number; with the first heartbeat the watcher has caught up.

    Raises:
        Refusal: OUT_OF_RANGE, COMPACTED when the record begins later; the fact `first_sequence` is its first number.
    """
    loop = asyncio.get_running_loop()
    job = job_id(request.job) if request.job else None
    after = request.after_sequence
    if after < 0:
        raise invalid("after_sequence", f"after_sequence = {after} is below 0, which is the beginning")
    caught_up, due = False, 0.0
    while True:
        change = feed.next()
        events, after, more = await asyncio.to_thread(_read, store, after, job, not caught_up)
        for event in events:
            event.job.CopyFrom(shown(event.job))
            yield event
        if events:
            due = loop.time() + heartbeat
        if more:
            feed.check()
            continue
        if request.no_wait:
            return
        if not caught_up or loop.time() >= due:
            caught_up, due = True, loop.time() + heartbeat
            beat = JobEvent(sequence=after, type=JobEvent.HEARTBEAT)
            beat.time.GetCurrentTime()
            yield beat
        await feed.wait(change, due - loop.time())


def _read(store: Store, after: int, job: str | None, begins: bool) -> tuple[list[JobEvent], int, bool]:
    """(events, the sequence number up to which all is known, whether there is more), of one moment of the record."""
    with store.reader() as reader:
        first, newest = reader.first_sequence(), reader.newest_sequence()
        if after + 1 < first:
            text = f"events up to {first - 1} are no longer on record; list the jobs, then watch from there"
            raise Refusal("OUT_OF_RANGE", text, reason="COMPACTED", facts={"first_sequence": str(first)})
        if after > newest:
            text = f"there is no event {after} yet; the newest is {newest}"
            raise Refusal("OUT_OF_RANGE", text, reason="AHEAD", facts={"newest_sequence": str(newest)})
        events = list(reader.events(after, PAGE, job_id=job))
        if begins and job is not None and not events and reader.job(job) is None:
            raise Refusal("NOT_FOUND", f"there is no job jobs/{job}", fields=[("job", f"there is no job jobs/{job}")])
    more = bool(events) and events[-1].sequence < newest  # of a watch of one job perhaps of others only
    return events, events[-1].sequence if more else newest, more
