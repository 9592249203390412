"""Why a job waits, behind which jobs, and when it is expected to start: the scheduler, played forward."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .scheduler import Holding, Limits, Plan, Waiting, counted, never, over, place, plan

MOST_NAMED = 10
"""Of the jobs that start before, and of those that hold slots, at most so many are named."""
MOST_READ = 300_000
"""Waiting jobs that are looked at when playing forward, some tenths of a second; what starts later is not foreseen."""
_READS_PER_PLAN = 100
"""A plan costs as much as looking at so many jobs."""


@dataclass(frozen=True)
class Outlook:
    """What is known of a job that waits."""

    position: int
    """Its place among the jobs that wait and are not passed over, 1 for the next to start; 0: it does not wait."""
    behind: tuple[str, ...]
    """Jobs that come before it, in their order; then jobs that hold what the next to start waits for."""
    start: float | None
    """When it is expected to start, in seconds of the clock of `now`; None: that cannot be foreseen."""
    summary: str
    """A line for a person, without the job's name."""
    slots_wanted: int
    slots_free: int
    slots_total: int


def explain(
    job_id: str,
    waiting: Sequence[Waiting],
    holding: Sequence[Holding],
    slots: Sequence[int],
    limits: Limits,
    now: float,
    expected: Mapping[str, float] | None = None,
) -> Outlook:
    """The outlook of a job, from what `plan` decides on the same arguments, which it takes in the same order.

    `expected`: seconds after which jobs that hold slots will probably end, where more is known than their limits.
    The forecast takes it that nothing else is submitted, that jobs end when expected or else at their limits, and that
    suspending takes no time. A job without either time is taken never to end.
    """
    total, free = len(slots), len(set(slots).difference(*(job.slots for job in holding)))
    at = next((at for at, job in enumerate(waiting) if job.job_id == job_id), None)
    if at is None:
        held = sum(len(job.slots) for job in holding if job.job_id == job_id)
        summary = f"does not wait: holds {counted(held)}" if held else "does not wait"
        return Outlook(0, (), None, summary, held, free, total)
    job = waiting[at]
    used = Counter[str]()
    for holder in holding:
        used[holder.owner] += len(holder.slots)
    most = math.inf if limits.slots_per_user is None else limits.slots_per_user
    before = [
        other.job_id for other in waiting[:at] if other.ranks <= total and used[other.owner] + other.ranks <= most
    ]
    behind: list[str] = []
    start: float | None = None
    why = never(job.ranks, total, limits)
    if why is None:
        decided = plan(waiting, holding, slots, limits, now)
        start, when = _forecast(job, waiting, holding, slots, limits, now, expected or {})
        if used[job.owner] + job.ranks > most or (job_id in decided.reasons and not _is_head(job_id, decided)):
            behind = [holder.job_id for holder in sorted(holding, key=place) if holder.owner == job.owner][:MOST_NAMED]
            why = f"{over(job.owner, limits)}; {when}"
        else:
            holders = () if decided.head is None or _starts(job_id, decided) else decided.head.behind
            behind = [*before[:MOST_NAMED], *holders[:MOST_NAMED]]
            why = f"{_why(job, before, free, total, decided)}; {when}"
    return Outlook(len(before) + 1, tuple(behind), start, why, job.ranks, free, total)


def pausing(ranks: int, holding: Sequence[Holding], slots: Sequence[int], until: float, now: float) -> Outlook:
    """The outlook of a job whose last attempt failed, and whose next one is put off."""
    free = len(set(slots).difference(*(job.slots for job in holding)))
    summary = f"pauses after a failed attempt: queued again {_from_now(until - now)}"
    return Outlook(0, (), until, summary, ranks, free, len(slots))


def _is_head(job_id: str, decided: Plan) -> bool:
    return decided.head is not None and decided.head.job_id == job_id


def _starts(job_id: str, decided: Plan) -> bool:
    return any(started == job_id for started, _ in decided.starts)


def _why(job: Waiting, before: Sequence[str], free: int, total: int, decided: Plan) -> str:
    """Why a job waits that is not passed over."""
    wants = f"wants {counted(job.ranks)}, {free} of {total} free"
    head = decided.head
    if head is None or _starts(job.job_id, decided):
        return f"fits: {wants}"
    if _is_head(job.job_id, decided):
        given_back = f"; {_names(head.behind)} must give back slots" if head.behind else ""
        return f"next to start: {wants}{given_back}"
    if job.ranks <= free - sum(len(taken) for _, taken in decided.starts):
        return f"{wants}, but it might delay {head.job_id}, which is next to start"
    return f"number {len(before) + 1} in the queue, after {_names(before)}: {wants}"


def _names(jobs: Sequence[str]) -> str:
    """`a, b and 3 more`."""
    if len(jobs) <= 3:
        return " and ".join(filter(None, [", ".join(jobs[:-1]), *jobs[-1:]]))
    return f"{', '.join(jobs[:2])} and {len(jobs) - 2} more"


def _forecast(
    job: Waiting,
    waiting: Sequence[Waiting],
    holding: Sequence[Holding],
    slots: Sequence[int],
    limits: Limits,
    now: float,
    expected: Mapping[str, float],
) -> tuple[float | None, str]:
    """When the job starts if all goes as is known, and that in words."""
    queue, known = list(waiting), {other.job_id: other for other in waiting}
    running = {holder.job_id: _Running(holder, now, expected.get(holder.job_id)) for holder in holding}
    time, read, rest = now, 0, dict(expected)

    def reading() -> Iterator[Waiting]:
        nonlocal read
        for other in queue:
            read += 1
            yield other

    while read < MOST_READ:
        read += _READS_PER_PLAN
        made = plan(reading(), [run.at(time) for run in running.values()], slots, limits, time)
        for job_id, taken in made.starts:
            if job_id == job.job_id:
                return time, f"expected to start {_from_now(time - now)}"
            other = known[job_id]
            del queue[bisect_left(queue, place(other), key=place)]
            holder = Holding(*other[:4], taken, other.preemptible, other.seconds_left, False, time)
            running[job_id] = _Running(holder, time, rest.get(job_id))
        for job_id in made.preempts:
            run = running.pop(job_id)
            left = run.at(time)
            rest[job_id] = run.end - time
            known[job_id] = Waiting(*left[:4], len(left.slots), left.preemptible, left.seconds_left)
            insort(queue, known[job_id], key=place)
        if not made.preempts:
            time = min((run.end for run in running.values()), default=math.inf)
        if time == math.inf:
            return None, "its start cannot be foreseen, as jobs before it have no time limit"
        running = {job_id: run for job_id, run in running.items() if run.end > time}
    return None, "its start is too far ahead to be foreseen"


class _Running:
    """A job that holds slots in the forecast."""

    def __init__(self, holder: Holding, since: float, expected: float | None) -> None:
        self.holder, self.since = holder, since
        left = [seconds for seconds in (holder.seconds_left, expected) if seconds is not None]
        self.end = since if holder.leaving else since + max(0.0, min(left, default=math.inf))

    def at(self, time: float) -> Holding:
        """What the scheduler sees of it."""
        left = self.holder.seconds_left
        return self.holder if left is None else self.holder._replace(seconds_left=left - (time - self.since))


def _from_now(seconds: float) -> str:
    """`now`, `in 40 s`, `in 5 min`, `in 2 h 5 min`, `in 3 d 4 h`."""
    if seconds < 1:
        return "now"
    if seconds < 60:
        return f"in {seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"in {minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"in {hours} h {minutes} min"
    return f"in {hours // 24} d {hours % 24} h"
