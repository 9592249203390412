"""A simulator of jobs on slots, from event to event, which does what the scheduler says and checks that it can be done.

`python tests/controller/simulator.py 100000` plays so many jobs, submitted in time and all at once, and says how long
that took.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time as clocks
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from deepgen.controller.scheduler import Holding, Limits, Plan, Waiting, place, plan


class Task(NamedTuple):
    """A job, and what the scheduler does not know of it."""

    job: Waiting
    submitted: float
    seconds: float
    """How long it runs in truth, over all its attempts; it is ended at its time limit."""


@dataclass
class Run:
    """One attempt."""

    task: Task
    holding: Holding
    """With the time limit that was left at `since`."""
    since: float
    seconds: float
    """What it still had to run at `since`."""


@dataclass
class World:
    """Jobs, slots, and a clock that goes from one event to the next."""

    slots: int
    limits: Limits = field(default_factory=Limits)
    grace: float = 0.0
    """How long a suspension takes."""
    watch: Callable[[World, Plan], None] | None = None
    """Is shown each plan before it is carried out."""
    time: float = 0.0
    plans: int = 0
    waiting: list[Waiting] = field(default_factory=list)
    running: dict[str, Run] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    """When each job was started."""
    ends: dict[str, float] = field(default_factory=dict)
    suspended: dict[str, int] = field(default_factory=dict)
    """How often each job was suspended for another."""

    def __post_init__(self) -> None:
        self.free = set(range(self.slots))
        self.tasks: dict[str, Task] = {}
        self._rest: dict[str, float] = {}
        self._leaving: list[Holding] = []
        self._events: list[tuple[float, int, str, float]] = []

    def submit(self, tasks: Sequence[Task]) -> World:
        """Jobs that will come at their time."""
        for task in tasks:
            self.tasks[task.job.job_id] = task
            self._rest[task.job.job_id] = task.seconds
            self._events.append((task.submitted, 2, task.job.job_id, 0.0))
        heapq.heapify(self._events)
        return self

    def begin(self, holding: Holding, seconds: float) -> World:
        """A job that holds slots from the beginning; one that is leaving leaves for good after the first plan."""
        job = Waiting(*holding[:4], len(holding.slots), holding.preemptible, holding.seconds_left)
        self._rest[job.job_id] = seconds
        self.tasks[job.job_id] = Task(job, self.time, seconds)
        self._run(self.tasks[job.job_id], holding, math.inf if holding.leaving else seconds)
        if holding.leaving:
            self._leaving.append(holding)
        return self

    def play(self, until: float = math.inf) -> World:
        """Goes on to a moment, by default until nothing happens any more."""
        while self._events and self._events[0][0] <= until:
            self.time = self._events[0][0]
            while self._events and self._events[0][0] == self.time:
                self._happen(*heapq.heappop(self._events)[1:])
            self._carry_out(self.decide())
        return self

    def holding(self) -> list[Holding]:
        """What the scheduler sees of the jobs that hold slots."""
        return [
            run.holding._replace(seconds_left=self._left(run)) if run.holding.seconds_left is not None else run.holding
            for run in self.running.values()
        ]

    def place(self, job_id: str) -> tuple[int, int, str]:
        """Of a job in the order in which jobs start."""
        return place(self.tasks[job_id].job)

    def decide(self) -> Plan:
        """What the scheduler says now."""
        self.plans += 1
        return plan(self.waiting, self.holding(), range(self.slots), self.limits, self.time)

    def _left(self, run: Run) -> float | None:
        limit = run.holding.seconds_left
        return None if limit is None else limit - (self.time - run.since)

    def _happen(self, kind: int, job_id: str, started: float) -> None:
        if kind == 2:
            insort(self.waiting, self.tasks[job_id].job, key=place)
            return
        run = self.running.get(job_id)
        if run is None or run.holding.started != started:
            return  # an event of an attempt that was suspended before
        del self.running[job_id]
        self.free |= set(run.holding.slots)
        rest, left = run.seconds - (self.time - run.since), self._left(run)
        if kind == 0:
            self.ends[job_id] = self.time
        else:
            self._rest[job_id] = rest
            insort(self.waiting, run.task.job._replace(seconds_left=left), key=place)

    def _carry_out(self, made: Plan) -> None:
        if self.watch is not None:
            self.watch(self, made)
        for job_id, slots in made.starts:
            task = self.tasks[job_id]
            job = self.waiting.pop(bisect_left(self.waiting, place(task.job), key=place))
            assert job.job_id == job_id
            assert len(slots) == job.ranks
            assert self.free.issuperset(slots)
            self.free -= set(slots)
            self.starts.setdefault(job_id, []).append(self.time)
            holding = Holding(*job[:4], slots, job.preemptible, job.seconds_left, False, self.time)
            self._run(task, holding, self._rest[job_id])
        for job_id in made.preempts:
            run = self.running[job_id]
            self.suspended[job_id] = self.suspended.get(job_id, 0) + 1
            run.holding = run.holding._replace(leaving=True)
            heapq.heappush(self._events, (self.time + self.grace, 1, job_id, run.holding.started))
        while self._leaving:
            holding = self._leaving.pop()
            heapq.heappush(self._events, (self.time + self.grace, 0, holding.job_id, holding.started))

    def _run(self, task: Task, holding: Holding, seconds: float) -> None:
        self.running[task.job.job_id] = Run(task, holding, self.time, seconds)
        self.free -= set(holding.slots)
        end = self.time + min(seconds, math.inf if holding.seconds_left is None else holding.seconds_left)
        if end < math.inf:
            heapq.heappush(self._events, (end, 0, task.job.job_id, holding.started))


def tasks(count: int, slots: int, seed: int, load: float | None = 0.95) -> list[Task]:
    """Jobs of many sizes, lengths and owners, submitted so that they fill `load` of the slots, or all at 0."""
    chance = random.Random(seed)
    sizes = [size for size in (1, 1, 1, 1, 2, 2, 4, 8, 16) if size <= slots]
    made, time = [], 0.0
    for number in range(count):
        ranks, limit = chance.choice(sizes), float(round(chance.lognormvariate(7, 1.2)) + 1)
        seconds = float(round(limit * chance.uniform(0.05, 1)) + 1)
        owner, preemptible = f"user{chance.randrange(20)}", chance.random() < 0.3
        job = Waiting(f"job-{number:06}", chance.choice((0, 0, 0, 5, 10)), number, owner, ranks, preemptible, limit)
        made.append(Task(job, time, min(seconds, limit)))
        if load is not None:
            time += round(chance.expovariate(load * slots / (ranks * seconds)))
    return made


def main() -> None:
    """Plays jobs and prints figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=int, nargs="?", default=10_000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for load in (0.95, None):
        for limits in (Limits(), Limits(backfill_depth=0), Limits(slots_per_user=given.slots // 4)):
            jobs = tasks(given.jobs, given.slots, given.seed, load)
            longest = 0

            def watch(world: World, _: Plan) -> None:
                nonlocal longest
                longest = max(longest, len(world.waiting))

            world = World(given.slots, limits, grace=5.0, watch=watch)
            begun = clocks.process_time()
            world.submit(jobs).play()
            took = clocks.process_time() - begun
            work = sum(task.seconds * task.job.ranks for task in jobs)
            waits = [world.starts[task.job.job_id][0] - task.submitted for task in jobs]
            print(
                f"{len(world.ends)} jobs {'at once' if load is None else 'over time'}, {limits}: {took:.1f} s of CPU,"
                f" {world.plans} plans of {took / world.plans * 1e6:.0f} us, at most {longest} waiting,"
                f" slots {work / given.slots / world.time:.0%} in use, mean wait {sum(waits) / len(waits):.0f} s,"
                f" {sum(world.suspended.values())} suspensions"
            )


if __name__ == "__main__":
    main()
