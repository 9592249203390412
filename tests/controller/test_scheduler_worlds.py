"""What comes of the scheduler's rules over time: worlds of jobs, played in the simulator."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.controller.scheduler import Limits, Plan, never

from .queues import LONGEST, Queue, queues, submissions, waits
from .simulator import Task, World, tasks

NO_BACKFILL = Limits(backfill_depth=0)
many = settings(deadline=None, max_examples=200)
some = settings(deadline=None, max_examples=100)


def started(made: Plan) -> list[str]:
    return [job_id for job_id, _ in made.starts]


def finished(world: World, made: list[Task]) -> None:
    """Every job that can start has ended; nothing is left behind."""
    can = {task.job.job_id for task in made if never(task.job.ranks, world.slots, world.limits) is None}
    assert set(world.ends) == can
    assert world.running == {}
    assert len(world.free) == world.slots


@many
@given(queues(limited=False))
def test_backfill_never_delays_the_head(queue: Queue) -> None:
    """Against the same world without it: jobs end at their time limits there, and never without one."""
    head = queue.plan().head
    if head is not None:
        alone = queue.world(NO_BACKFILL).play().starts.get(head.job_id)
        together = queue.world().play().starts.get(head.job_id)
        assert (together is None) == (alone is None)
        assert together is None or alone is None or together[0] <= alone[0]
        assert (together[0] if together else None) == head.start


class Promises:
    """Watches that the reservation of a head moves to no later moment and is kept, unless another starts before it."""

    def __init__(self) -> None:
        self.kept, self._head, self._moment = 0, "", float("inf")

    def __call__(self, world: World, made: Plan) -> None:
        first = [job_id for job_id, _ in made.starts]
        head = made.head.job_id if made.head else ""
        moment = made.head.start if made.head and made.head.start is not None else float("inf")
        overtaken = any(world.place(job_id) < world.place(self._head) for job_id in first if self._head)
        if self._head in first:
            assert world.time <= self._moment
            self.kept += self._moment < float("inf")
        elif head == self._head and not overtaken:
            assert moment <= self._moment
        self._head, self._moment = head, moment


@many
@given(submissions(), st.integers(4, 8), st.none() | st.integers(4, 8))
def test_a_reservation_is_kept(made: list[Task], slots: int, most: int | None) -> None:
    """Also when jobs end before their limits, others come in, and users have limits."""
    world = World(slots, Limits(most), watch=Promises()).submit(made).play()
    finished(world, made)


@many
@given(submissions(unbounded=False), st.integers(5, 8), st.integers(0, 2))
def test_nobody_waits_for_ever(made: list[Task], slots: int, grace: int) -> None:
    """What comes later with the same or lower priority delays a job by nothing: L is the longest time limit,
    n the number of jobs before it, and (n + 1) (L + the time of a suspension) the longest that it waits."""
    world = World(slots, grace=grace).submit(made).play()
    finished(world, made)
    top = [task for task in made if task.job.priority == 2]
    for at, task in enumerate(top):
        before = sum(world.starts[other.job.job_id][0] >= task.submitted for other in top[:at])
        assert world.starts[task.job.job_id][0] - task.submitted <= (before + 1) * (LONGEST + grace)


def test_a_large_job_is_not_starved_by_a_stream_of_small_ones() -> None:
    """They keep 5 of 8 slots busy, so that 8 are never free by themselves."""
    small = [Task(waits("s", 1, left=10.0)._replace(job_id=f"s{at}", order=at), 2.0 * at, 10.0) for at in range(1000)]
    large = Task(waits("z", 8, left=10.0), 250.5, 10.0)
    world = World(8).submit([*small, large]).play()
    assert 250.5 < world.starts["z"][0] <= 250.5 + 10


@many
@given(submissions(), st.integers(5, 8), st.none() | st.integers(5, 8))
def test_who_was_suspended_made_room_for_a_greater_priority(made: list[Task], slots: int, most: int | None) -> None:
    """At once, as a suspension takes no time here; so nobody is suspended for nothing, and no user has too much."""
    expected: list[str] = []

    def watch(world: World, made: Plan) -> None:
        if expected:
            head, first = expected.pop(), started(made)
            # A job that was passed over for its owner's limit may be back, as one of the owner's has left.
            back = [*first, *([made.head.job_id] if made.head else [])]
            assert head in first or (most is not None and any(world.place(job) < world.place(head) for job in back))
        if made.preempts:
            assert made.head is not None
            expected.append(made.head.job_id)
            priority = world.tasks[made.head.job_id].job.priority
            assert all(world.tasks[victim].job.priority < priority for victim in made.preempts)
            assert all(world.tasks[victim].job.preemptible for victim in made.preempts)
        used = Counter[str]()
        for run in world.running.values():
            used[run.holding.owner] += len(run.holding.slots)
        assert most is None or max(used.values(), default=0) <= most

    finished(World(slots, Limits(most), watch=watch).submit(made).play(), made)


@some
@given(submissions(), st.integers(4, 8), st.none() | st.integers(4, 8), st.integers(0, 30))
def test_slow_suspensions_leave_nobody_behind(made: list[Task], slots: int, most: int | None, grace: int) -> None:
    first = World(slots, Limits(most), grace).submit(made).play()
    finished(first, made)
    assert World(slots, Limits(most), grace).submit(made).play().starts == first.starts


@pytest.mark.parametrize("load", [0.95, None], ids=["over time", "at once"])
def test_ten_thousand_jobs(load: float | None) -> None:
    made, promises = tasks(10_000, slots=64, seed=1, load=load), Promises()
    world = World(64, watch=promises).submit(made).play()
    finished(world, made)
    assert promises.kept > 1000
    in_order = World(64, NO_BACKFILL).submit(made).play()
    assert world.time <= in_order.time
    first = [sum(each.starts[task.job.job_id][0] - task.submitted for task in made) for each in (world, in_order)]
    assert first[0] < first[1]  # backfill shortens the mean wait
