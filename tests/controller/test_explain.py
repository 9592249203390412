"""What a user is told about a job that waits: whom it waits for, and when it will start."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.controller.explain import MOST_NAMED, Outlook, explain
from deepgen.controller.scheduler import Limits, never

from .queues import NOW, Queue, holds, queues, waits
from .simulator import Task, World

HOUR = 3600.0
EIGHT = range(8)


def outlook(queue: Queue, job_id: str, expected: dict[str, float] | None = None) -> Outlook:
    return explain(job_id, queue.waiting, queue.holding, queue.slots, queue.limits, NOW, expected)


@settings(deadline=None, max_examples=200)
@given(queues())
def test_the_start_is_foreseen_where_time_limits_are_true(queue: Queue) -> None:
    """With starts out of order, limits of users, suspensions, and jobs that never end."""
    starts = queue.world().play().starts
    for job in queue.waiting:
        assert outlook(queue, job.job_id).start == starts.get(job.job_id, [None])[0]


@settings(deadline=None, max_examples=100)
@given(queues(), st.dictionaries(st.sampled_from([f"h{number}" for number in range(6)]), st.integers(1, 30).map(float)))
def test_the_start_is_foreseen_where_more_is_known_than_time_limits(queue: Queue, rests: dict[str, float]) -> None:
    world = World(len(queue.slots), queue.limits, time=NOW)
    for held in queue.holding:
        world.begin(held, rests.get(held.job_id, float("inf")))
    starts = world.submit([Task(job, NOW, float("inf")) for job in queue.waiting]).play().starts
    for job in queue.waiting:
        assert outlook(queue, job.job_id, rests).start == starts.get(job.job_id, [None])[0]


@settings(deadline=None, max_examples=200)
@given(queues())
def test_every_outlook_fits_the_plan(queue: Queue) -> None:
    made = queue.plan()
    known = {job.job_id for job in queue.waiting} | {job.job_id for job in queue.holding}
    for job in queue.waiting:
        told = outlook(queue, job.job_id)
        assert (told.start == NOW) or job.job_id not in dict(made.starts)
        can = never(job.ranks, len(queue.slots), queue.limits) is None
        assert told.summary.startswith("cannot start") != can
        assert job.job_id not in told.behind
        assert known.issuperset(told.behind)
        assert told.position >= 1
        assert (told.slots_wanted, told.slots_free, told.slots_total) == (job.ranks, len(queue.free), len(queue.slots))
        if made.head is not None and made.head.job_id == job.job_id:
            assert set(made.preempts) <= set(told.behind)
            assert set(told.behind) >= set(made.head.behind[:MOST_NAMED])


def test_whom_a_job_waits_for_and_until_when() -> None:
    """x gives back 2 slots in an hour, y 4 in two; z holds 2 for good."""
    holding = [holds("x", range(2), HOUR), holds("y", range(2, 6), 2 * HOUR), holds("z", range(6, 7))]
    waiting = [waits("a", 6, 3 * HOUR), waits("b", 1), waits("c", 2), waits("d", 2)]
    queue = Queue(waiting, holding, list(EIGHT), Limits())
    assert outlook(queue, "a") == Outlook(
        1,
        ("x", "y"),
        NOW + 2 * HOUR,
        "next to start: wants 6 slots, 1 of 8 free; x and y must give back slots; expected to start in 2 h 0 min",
        6,
        1,
        8,
    )
    assert outlook(queue, "b").start == NOW  # one slot is left over when `a` has started
    c = outlook(queue, "c")
    assert (c.position, c.behind) == (3, ("a", "b", "x", "y"))
    assert c.start == NOW + 5 * HOUR
    assert (
        c.summary == "number 3 in the queue, after a and b: wants 2 slots, 1 of 8 free; expected to start in 5 h 0 min"
    )
    assert outlook(queue, "z").summary == "does not wait: holds 1 slot"
    assert outlook(queue, "z").position == 0
    assert outlook(queue, "nobody").summary == "does not wait"


def test_what_might_delay_the_head_is_told_so() -> None:
    queue = Queue([waits("a", 8), waits("b", 1)], [holds("x", range(6), 60)], list(EIGHT), Limits())
    b = outlook(queue, "b")
    assert b.behind == ("a", "x")
    assert b.summary == (
        "wants 1 slot, 2 of 8 free, but it might delay a, which is next to start; "
        "its start cannot be foreseen, as jobs before it have no time limit"
    )


def test_what_stands_in_the_way_is_named() -> None:
    """Each in its own words: too large, over the limit of a user, a job to be suspended."""
    mine = holds("m", range(3), 90)._replace(owner="ada")
    queue = Queue([waits("a", 9), waits("b", 2)], [mine], list(EIGHT), Limits(slots_per_user=4))
    assert outlook(queue, "a").summary == "cannot start: wants 9 slots, and there are 8 in all"
    assert outlook(queue, "a").behind == ()
    b = outlook(queue, "b")
    assert (b.position, b.behind, b.start) == (1, ("m",), NOW + 90)
    assert b.summary == "would give ada more than the 4 slots that a user may hold; expected to start in 2 min"
    queue = Queue([waits("c", 4, priority=1)], [holds("x", EIGHT, preemptible=True)], list(EIGHT), Limits())
    c = outlook(queue, "c")
    assert (c.behind, c.start) == (("x",), NOW)
    assert c.summary == "next to start: wants 4 slots, 0 of 8 free; x must give back slots; expected to start now"


def test_jobs_that_leave_have_left_when_another_is_suspended() -> None:
    """l and x give way to `a` at once; then x, which is before `b`, waits for the next 2 slots."""
    holding = [
        holds("l", range(2), 1)._replace(leaving=True),
        holds("x", range(2, 4), 1, preemptible=True),
        holds("y", range(4, 5), 2),
    ]
    waiting = [waits("a", 3, priority=1), waits("b", 1), waits("c", 1)]
    queue = Queue(waiting, holding, list(range(5)), Limits())
    starts = queue.world().play().starts
    assert (starts["a"], starts["x"], starts["b"]) == ([NOW], [NOW + 2], [NOW + 3])
    assert [outlook(queue, job_id).start for job_id in "abc"] == [NOW, NOW + 3, NOW + 3]


def test_a_job_that_was_suspended_runs_on_in_the_forecast() -> None:
    """x gives way to `a` when y has ended, after 20 s, and goes on before `b`, which was submitted later."""
    holding = [holds("x", range(6), 90, preemptible=True), holds("y", range(6, 8), 20)]
    queue = Queue([waits("a", 8, 30, priority=1), waits("b", 8, 5)], holding, list(EIGHT), Limits())
    assert outlook(queue, "a").start == NOW + 20
    assert outlook(queue, "b").start == NOW + 90 + 30
    assert outlook(queue, "b", {"x": 80}).start == NOW + 80 + 30


def test_a_long_queue_is_foreseen_as_far_as_that_takes_no_long_time() -> None:
    waiting = [waits("a", 8, 10.0)._replace(job_id=f"w{at:06}", order=at) for at in range(100_000)]
    queue = Queue(waiting, [holds("x", range(7), 10)], list(EIGHT), Limits())
    near, far = outlook(queue, "w000100"), outlook(queue, "w099999")
    assert near.start == NOW + 10 + 100 * 10
    assert far.start is None
    assert far.position == 100_000
    assert far.behind == (*(f"w{at:06}" for at in range(MOST_NAMED)), "x")
    assert far.summary.endswith("its start is too far ahead to be foreseen")
