"""Random queues for the tests of the scheduler: jobs that wait, jobs that hold slots, and worlds to play."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from deepgen.controller.scheduler import Holding, Limits, Plan, Waiting, place, plan

from .simulator import Task, World

NOW = 1000.0
LONGEST = 8
"""Of the time limits, in seconds: so few that many jobs end at one moment."""


@dataclass(frozen=True)
class Queue:
    """All that a plan is made from."""

    waiting: list[Waiting]
    holding: list[Holding]
    slots: list[int]
    limits: Limits

    def plan(self, limits: Limits | None = None) -> Plan:
        """With other limits if some are given."""
        return plan(self.waiting, self.holding, self.slots, limits or self.limits, NOW)

    @property
    def free(self) -> set[int]:
        """Slots that nobody holds."""
        return set(self.slots) - {slot for job in self.holding for slot in job.slots}

    def job(self, job_id: str) -> Waiting:
        """One that waits."""
        return next(job for job in self.waiting if job.job_id == job_id)

    def world(self, limits: Limits | None = None) -> World:
        """A world in which jobs end exactly at their time limits, and never without one."""
        world = World(len(self.slots), limits or self.limits, time=NOW)
        for job in self.holding:
            world.begin(job, float("inf"))
        return world.submit([Task(job, NOW, float("inf")) for job in self.waiting])


def waits(
    job_id: str, ranks: int, left: float | None = None, *, priority: int = 0, preemptible: bool = False
) -> Waiting:
    """A job of user `ada` that waits; its order is that of its name, a letter."""
    return Waiting(job_id, priority, ord(job_id[0]), "ada", ranks, preemptible, left)


def holds(job_id: str, slots: Sequence[int], left: float | None = None, *, preemptible: bool = False) -> Holding:
    """A job of user `bob` that holds slots; it was submitted before all of `ada`."""
    return Holding(job_id, 0, 0, "bob", tuple(slots), preemptible, left, False, 0.0)


def lengths(unbounded: bool) -> st.SearchStrategy[float | None]:
    """Time limits."""
    limited = st.integers(1, LONGEST).map(float)
    return limited | limited | limited | st.none() if unbounded else limited


@st.composite
def queues(draw: st.DrawFn, unbounded: bool = True, limited: bool = True) -> Queue:
    """`unbounded`: some jobs have no time limit. `limited`: users may have a limit."""
    slots = list(range(draw(st.sampled_from([8, 8, 7, 6, 4, 1]))))
    orders = iter(draw(st.permutations(range(24))))
    owners, priorities = st.sampled_from("abc"), st.integers(0, 3)
    left = draw(st.permutations(slots))
    holding = []
    for number in range(draw(st.sampled_from([3, 2, 4, 1, 0]))):
        taken = left[: draw(st.sampled_from([1, 1, 2, 3]))]
        left = left[len(taken) :]
        if not taken:
            break
        seconds, started = draw(lengths(unbounded)), NOW - draw(st.integers(0, 3))
        flags = (draw(st.booleans()), seconds, draw(st.sampled_from([False] * 7 + [True])), started)
        holding.append(Holding(f"h{number}", draw(priorities), next(orders), draw(owners), tuple(taken), *flags))
    sizes = [1, 1, 1, 2, 2, 3, len(slots), len(slots) + 2]
    waiting = []
    for number in range(draw(st.sampled_from([6, 9, 3, 1, 0]))):
        ranks, priority = draw(st.sampled_from(sizes)), draw(priorities)
        if number == 0 and 0 < len(left) < len(slots):  # most often a head that does not fit, and slots to run ahead on
            ranks, priority = draw(st.integers(len(left) + 1, len(slots))), draw(st.sampled_from([3, 2, 1]))
        preemptible, seconds = draw(st.booleans()), draw(lengths(unbounded))
        waiting.append(Waiting(f"w{number}", priority, next(orders), draw(owners), ranks, preemptible, seconds))
    most = draw(st.sampled_from([None, None, 2, 4, 6])) if limited else None
    return Queue(sorted(waiting, key=place), holding, slots, Limits(most))


@st.composite
def submissions(draw: st.DrawFn, unbounded: bool = True) -> list[Task]:
    """Jobs that come over time and end at their limits or before."""
    time, made = 0.0, []
    for number in range(draw(st.integers(1, 25))):
        time += draw(st.sampled_from([0, 0, 1, 5, 15]))
        limit = draw(lengths(unbounded))
        seconds = float(draw(st.integers(1, int(limit or LONGEST))))
        owner, ranks = draw(st.sampled_from("abc")), draw(st.integers(1, 5))
        job = Waiting(f"j{number}", draw(st.integers(0, 2)), number, owner, ranks, draw(st.booleans()), limit)
        made.append(Task(job, time, seconds))
    return made


def surely(head: Waiting, holders: list[Holding], total: int) -> float | None:
    """The first moment at which a job could start, tried one by one: an answer to compare reservations with."""
    ends = {NOW + job.seconds_left for job in holders if job.seconds_left is not None}
    for moment in sorted({NOW, *ends}):
        kept = sum(
            len(job.slots)
            for job in holders
            if not job.leaving
            and not (job.preemptible and job.priority < head.priority)
            and (job.seconds_left is None or NOW + job.seconds_left > moment)
        )
        if total - kept >= head.ranks:
            return moment
    return None


def sets_of_victims(head: Waiting, holding: list[Holding], gap: int) -> list[tuple[Holding, ...]]:
    """Every set of holders that could be suspended for a job and have so many slots."""
    may = [job for job in holding if job.preemptible and job.priority < head.priority and not job.leaving]
    return [
        chosen
        for count in range(1, len(may) + 1)
        for chosen in itertools.combinations(may, count)
        if sum(len(job.slots) for job in chosen) >= gap
    ]
