"""Which jobs start now, on which slots, and which give way: pure rules, without a clock, a store or a process.

Order. Greater priority first, then earlier submission. Jobs start in this order as long as each fits; a job gets all
its slots at once or none. Passed over, and not waited behind: a job that is larger than all slots, or than what a user
may hold; and a job that would give its owner more than a user may hold now.

The head is the first job that does not fit. It has a reservation: the earliest moment at which its slots are sure, when
each holder ends at its time limit, those that are leaving leave now, and those that may be suspended for it are. It has
no moment when too much is held without a time limit.

Backfill. A job behind the head starts now, on free slots, in any of these cases:
- It ends before the moment of the reservation, by its own time limit.
- It takes slots that are left over at that moment, when the head has started.
- It may be suspended for the head (preemptible, of strictly lower priority), and the head cannot start yet.
What the head will hold is counted for its owner's limit. So backfill never moves a reservation to a later moment
(EASY: Lifka, "The ANL/IBM SP Scheduling System", 1995; the third case is added here).

Preemption. Only for the head, and only when it can then start: free slots, those of jobs that are leaving and those of
preemptible holders of strictly lower priority are enough together, and the first two alone are not. The fewest victims
that free enough; of those the ones of the lowest priority; of those the youngest.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

TURN = "waits for the jobs before it"
"""The reason of every waiting job of which a plan says nothing else."""
_MOST_REASONS = 1000
"""Of jobs that are passed over; each change of a reason is an event on record."""


class Waiting(NamedTuple):
    """A job that wants slots."""

    job_id: str
    priority: int
    order: int
    """Of its submission: the lower one came first."""
    owner: str
    ranks: int
    """Slots it wants, at least 1."""
    preemptible: bool
    seconds_left: float | None
    """What is left of its time limit; None: it has none."""


class Holding(NamedTuple):
    """A job that holds slots."""

    job_id: str
    priority: int
    order: int
    owner: str
    slots: tuple[int, ...]
    preemptible: bool
    seconds_left: float | None
    leaving: bool
    """Is being suspended or cancelled: its slots will be free without anything else being done."""
    started: float
    """When its attempt began, in seconds."""


@dataclass(frozen=True)
class Limits:
    """What bounds a plan."""

    slots_per_user: int | None = None
    """The most slots that the jobs of one owner may hold together; None: no bound."""
    backfill_depth: int = 1000
    """So many jobs behind the head are looked at for backfill; 0: none runs ahead."""


@dataclass(frozen=True)
class Reservation:
    """What is kept for the head: the first job in the order that could start, but for slots."""

    job_id: str
    start: float | None
    """Its slots are sure from this moment on, in seconds; None: no time limits say so."""
    behind: tuple[str, ...]
    """The jobs that must give back slots before; when `start` is None, all that have no time limit as well."""


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    starts: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    """Jobs to start and the slots of each, in the order of `place`."""
    preempts: list[str] = field(default_factory=list)
    """Jobs to suspend; the head starts in a later plan, when they have left."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a job waits, in a line, where there is more to say than `TURN`."""
    head: Reservation | None = None

    def reason(self, job_id: str) -> str:
        """Why a job waits, in a line."""
        return self.reasons.get(job_id, TURN)


def place(job: Waiting | Holding) -> tuple[int, int, str]:
    """The key of the order: what sorts first starts first."""
    return -job.priority, job.order, job.job_id


def never(ranks: int, slots: int, limits: Limits) -> str | None:
    """Why a job of so many ranks can never start on so many slots; None if it can."""
    if ranks > slots:
        return f"cannot start: wants {counted(ranks)}, and there {'is' if slots == 1 else 'are'} {slots} in all"
    if limits.slots_per_user is not None and ranks > limits.slots_per_user:
        return f"cannot start: wants {counted(ranks)}, and a user may hold {limits.slots_per_user}"
    return None


def over(owner: str, limits: Limits) -> str:
    """Why a job is passed over whose owner would hold too much."""
    return f"would give {owner} more than the {counted(limits.slots_per_user or 0)} that a user may hold"


def plan(
    waiting: Iterable[Waiting], holding: Sequence[Holding], slots: Iterable[int], limits: Limits, now: float
) -> Plan:
    """What to start and what to suspend at `now`, in seconds of the clock of `Holding.started`.

    `waiting` comes in the order of `place` and is read only as far as jobs can still start, so it may be a cursor.
    ValueError: it comes in another order. The order of `holding` and of `slots` does not matter.
    """
    usable = set(slots)
    free = sorted(usable.difference(*(job.slots for job in holding)))
    holders, held = list(holding), Counter[str]()
    for holder in holders:
        held[holder.owner] += len(holder.slots)
    starts: list[tuple[str, tuple[int, ...]]] = []
    reasons: dict[str, str] = {}
    kept: _Kept | None = None
    most, looked = limits.slots_per_user, 0
    last: tuple[int, int, str] | None = None
    for job in waiting:
        key = place(job)
        if last is not None and key < last:
            raise ValueError(f"job {job.job_id} is out of order")
        last = key
        if job.ranks > len(usable) or (most is not None and held[job.owner] + job.ranks > most):
            if len(reasons) < _MOST_REASONS:
                reasons[job.job_id] = never(job.ranks, len(usable), limits) or over(job.owner, limits)
            continue
        if kept is None and job.ranks > len(free):
            kept = _reserve(job, holders, usable, len(free), now)
            reasons[job.job_id] = _next(job.ranks, len(free), len(usable), kept)
            held[job.owner] += job.ranks
        elif kept is None or (job.ranks <= len(free) and kept.lets(job, now)):
            taken, free = tuple(free[: job.ranks]), free[job.ranks :]
            starts.append((job.job_id, taken))
            held[job.owner] += job.ranks
            holders.append(_holding(job, taken, now))
        if kept is not None:
            if not free or looked >= limits.backfill_depth:
                break
            looked += 1
    if kept is None:
        return Plan(starts, [], reasons, None)
    return Plan(starts, kept.victims, reasons, kept.reservation)


@dataclass
class _Kept:
    """What is kept for the head, and what that leaves to the jobs behind."""

    reservation: Reservation
    priority: int
    spare: int
    """Slots that are left over when the head has started at the moment of the reservation."""
    soon: bool
    """The head starts as soon as those that are leaving have left."""
    victims: list[str]

    def lets(self, job: Waiting, now: float) -> bool:
        """Whether a job that fits runs ahead; what it takes of the spare slots is then gone."""
        if not self.soon:
            if job.preemptible and job.priority < self.priority:
                return True
            moment = self.reservation.start
            if moment is not None and job.seconds_left is not None and now + job.seconds_left <= moment:
                return True
        if job.ranks <= self.spare:
            self.spare -= job.ranks
            return True
        return False


def _reserve(head: Waiting, holders: Sequence[Holding], usable: set[int], free: int, now: float) -> _Kept:
    """What is kept for a job that wants more slots than are free."""
    size = {job.job_id: len(usable.intersection(job.slots)) for job in holders}
    leaving, yielding, others = [], [], []
    for job in sorted(holders, key=place):
        if job.leaving:
            leaving.append(job)
        elif job.preemptible and job.priority < head.priority:
            yielding.append(job)
        else:
            others.append(job)
    sure = free + sum(size[job.job_id] for job in leaving)
    victims = _victims(yielding, size, head.ranks - sure)
    sure += sum(size[job.job_id] for job in victims)
    if sure >= head.ranks:
        return _kept(head, now, now, sure, [*leaving, *victims], victims)
    sure += sum(size[job.job_id] for job in yielding)
    moment, ending = now, []
    for job in sorted(others, key=lambda job: _end(job, now)):
        if sure >= head.ranks and _end(job, now) > moment:
            break
        moment = _end(job, now)
        sure += size[job.job_id]
        ending.append(job)
    return _kept(head, now, moment, sure, [*leaving, *ending, *yielding], [])


def _kept(
    head: Waiting, now: float, moment: float, sure: int, behind: Iterable[Holding], victims: Iterable[Holding]
) -> _Kept:
    """`sure`: the slots that are free, or given back by `moment`."""
    known = moment < math.inf
    reservation = Reservation(head.job_id, moment if known else None, tuple(job.job_id for job in behind))
    # Without a moment nothing is left over: each slot may be the one that lets the head start when a job ends early.
    spare = sure - head.ranks if known else 0
    return _Kept(reservation, head.priority, spare, moment <= now, [job.job_id for job in victims])


def _victims(yielding: Sequence[Holding], size: Mapping[str, int], gap: int) -> list[Holding]:
    """The fewest holders with `gap` slots together, of the lowest priorities, of those the youngest; [] if too few."""
    largest = sorted((size[job.job_id] for job in yielding), reverse=True)
    if gap <= 0 or sum(largest) < gap:
        return []
    count = next(count for count, reach in enumerate(accumulate(largest), start=1) if reach >= gap)
    left = sorted(yielding, key=lambda job: (job.priority, -job.started, -job.order, job.job_id))
    chosen: list[Holding] = []
    for at, job in enumerate(left):
        # It is taken if the largest of the rest can still fill the gap with it.
        more = heapq.nlargest(count - len(chosen) - 1, (size[other.job_id] for other in left[at + 1 :]))
        if len(chosen) < count and size[job.job_id] + sum(more) >= gap:
            chosen.append(job)
            gap -= size[job.job_id]
    return chosen


def _end(job: Holding, now: float) -> float:
    """When a holder ends at the latest; infinite without a time limit."""
    return math.inf if job.seconds_left is None else now + max(0.0, job.seconds_left)


def _holding(job: Waiting, slots: tuple[int, ...], now: float) -> Holding:
    """A job that has just been started."""
    return Holding(job.job_id, job.priority, job.order, job.owner, slots, job.preemptible, job.seconds_left, False, now)


def counted(number: int) -> str:
    """`1 slot`, `2 slots`."""
    return "1 slot" if number == 1 else f"{number} slots"


def _next(ranks: int, free: int, total: int, kept: _Kept) -> str:
    """Why the head waits."""
    if kept.victims:
        return f"next to start: {', '.join(kept.victims)} {'is' if len(kept.victims) == 1 else 'are'} suspended for it"
    return f"next to start: wants {counted(ranks)}, {free} of {total} free"
