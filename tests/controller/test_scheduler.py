"""The rules of the scheduler, of single plans: who starts, who runs ahead, who is suspended, and what is said of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.controller.scheduler import TURN, Holding, Limits, Plan, Waiting, never, place, plan

from .queues import NOW, Queue, holds, queues, sets_of_victims, surely, waits

EIGHT = range(8)
many = settings(deadline=None, max_examples=200)
some = settings(deadline=None, max_examples=100)


def started(made: Plan) -> list[str]:
    return [job_id for job_id, _ in made.starts]


def as_holders(queue: Queue, made: Plan) -> list[Holding]:
    """Who holds slots when the plan is carried out."""
    holding = [other._replace(leaving=True) if other.job_id in made.preempts else other for other in queue.holding]
    for job_id, slots in made.starts:
        new = queue.job(job_id)
        holding.append(Holding(*new[:4], slots, new.preemptible, new.seconds_left, False, NOW))
    return holding


@many
@given(queues())
def test_a_job_gets_all_its_slots_and_no_slot_is_given_twice(queue: Queue) -> None:
    made = queue.plan()
    given_out = [slot for _, slots in made.starts for slot in slots]
    assert len(given_out) == len(set(given_out))
    assert queue.free.issuperset(given_out)
    assert all(len(slots) == queue.job(job_id).ranks for job_id, slots in made.starts)
    assert len(set(started(made))) == len(made.starts)
    assert set(made.preempts) <= {other.job_id for other in queue.holding}


@many
@given(queues())
def test_without_backfill_jobs_start_in_their_order(queue: Queue) -> None:
    """The rule written a second time: each in turn, those that are passed over left out, until one does not fit."""
    used, free, expected, head = Counter[str](), len(queue.free), [], None
    for held in queue.holding:
        used[held.owner] += len(held.slots)
    for other in queue.waiting:
        most = queue.limits.slots_per_user or 99
        if other.ranks > len(queue.slots) or used[other.owner] + other.ranks > most:
            continue
        if other.ranks > free:
            head = other.job_id
            break
        free -= other.ranks
        used[other.owner] += other.ranks
        expected.append(other.job_id)
    made = queue.plan(Limits(queue.limits.slots_per_user, backfill_depth=0))
    assert started(made) == expected
    assert (made.head.job_id if made.head else None) == head
    with_backfill = queue.plan()
    assert started(with_backfill)[: len(expected)] == expected
    assert with_backfill.head == made.head
    assert with_backfill.preempts == made.preempts


@many
@given(queues())
def test_what_runs_ahead_leaves_the_reservation_where_it_is(queue: Queue) -> None:
    made = queue.plan()
    if made.head is None:
        return
    head, total = queue.job(made.head.job_id), len(queue.slots)
    ahead = {job_id for job_id in started(made) if place(queue.job(job_id)) > place(head)}
    after = as_holders(queue, made)
    before = [other for other in after if other.job_id not in ahead]
    assert made.head.start == surely(head, before, total)
    assert surely(head, after, total) == made.head.start
    if made.head.start == NOW:  # those that are leaving must be enough, without more victims
        assert total - sum(len(other.slots) for other in after if not other.leaving) >= head.ranks
    if made.head.start is None:
        assert all(queue.job(job_id).preemptible and queue.job(job_id).priority < head.priority for job_id in ahead)


@many
@given(queues())
def test_nobody_holds_more_than_a_user_may(queue: Queue) -> None:
    most = queue.limits.slots_per_user
    if most is None:
        return
    made = queue.plan()
    before, after = Counter[str](), Counter[str]()
    for other in queue.holding:
        before[other.owner] += len(other.slots)
    for other in as_holders(queue, made):
        after[other.owner] += len(other.slots)
    if made.head is not None:
        head = queue.job(made.head.job_id)
        after[head.owner] += head.ranks
    assert all(after[owner] <= max(most, before[owner]) for owner in after)


@many
@given(queues())
def test_only_the_head_suspends_and_only_as_few_as_let_it_start(queue: Queue) -> None:
    made = queue.plan()
    if made.head is None:
        assert made.preempts == []
        return
    head = queue.job(made.head.job_id)
    first = [slots for job_id, slots in made.starts if place(queue.job(job_id)) < place(head)]
    free = len(queue.free) - sum(map(len, first))
    gap = head.ranks - free - sum(len(other.slots) for other in queue.holding if other.leaving)
    # What has started in this very plan is of the head's priority at least: it never yields.
    enough = sets_of_victims(head, queue.holding, gap)
    chosen = {other for other in queue.holding if other.job_id in made.preempts}
    assert bool(made.preempts) == (gap > 0 and bool(enough))
    if made.preempts:
        fewest = [victims for victims in enough if len(victims) == min(map(len, enough))]
        assert chosen in [set(victims) for victims in fewest]
        best = min(sorted((job.priority, -job.started, -job.order) for job in victims) for victims in fewest)
        assert sorted((job.priority, -job.started, -job.order) for job in chosen) == best


@some
@given(queues(), st.randoms(use_true_random=False))
def test_a_plan_depends_on_nothing_but_what_it_is_made_from(queue: Queue, chance: random.Random) -> None:
    holding = chance.sample(queue.holding, len(queue.holding))
    slots = chance.sample(queue.slots, len(queue.slots))
    assert plan(iter(queue.waiting), holding, slots, queue.limits, NOW) == queue.plan()


@some
@given(queues())
def test_an_empty_house_is_never_left_empty(queue: Queue) -> None:
    """Else nothing would ever start: no plan comes of a plan that changes nothing."""
    made = plan(queue.waiting, [], queue.slots, queue.limits, NOW)
    can_start = [job for job in queue.waiting if never(job.ranks, len(queue.slots), queue.limits) is None]
    assert bool(made.starts) == bool(can_start)


@some
@given(queues())
def test_a_job_that_can_never_start_is_told_so(queue: Queue) -> None:
    made = plan(queue.waiting, [], queue.slots, Limits(), NOW)
    read = started(made) + list(made.reasons)
    for other in queue.waiting:
        too_large = other.ranks > len(queue.slots)
        assert not (too_large and other.job_id in started(made))
        if other.job_id in read:
            assert made.reason(other.job_id).startswith("cannot start: wants") == too_large


def test_reasons() -> None:
    waiting = [waits("a", 9), waits("b", 3), waits("c", 4), waits("d", 1), waits("e", 2)]
    waiting[3:] = [job._replace(owner="cy") for job in waiting[3:]]
    made = plan(waiting, [holds("x", [0, 1])], EIGHT, Limits(slots_per_user=4), NOW)
    assert made.starts == [("b", (2, 3, 4)), ("d", (5,)), ("e", (6, 7))]
    assert made.reasons == {
        "a": "cannot start: wants 9 slots, and there are 8 in all",
        "c": "would give ada more than the 4 slots that a user may hold",
    }
    made = plan([waits("a", 4), waits("b", 1)], [holds("x", range(6))], EIGHT, Limits(), NOW)
    assert made.reasons == {"a": "next to start: wants 4 slots, 2 of 8 free"}
    assert made.reason("b") == TURN
    assert never(5, 8, Limits(slots_per_user=4)) == "cannot start: wants 5 slots, and a user may hold 4"
    assert never(2, 1, Limits()) == "cannot start: wants 2 slots, and there is 1 in all"


def test_who_may_run_ahead() -> None:
    """The head wants 6 of 8 slots, of which 4 are free; 2 more come back in 100 s, and 2 stay."""
    holding = [holds("x", [0, 1], left=100), holds("y", [2, 3])]
    head = waits("a", 6, priority=5)

    def ahead(*others: Waiting) -> list[str]:
        return started(plan([head, *others], holding, EIGHT, Limits(), NOW))

    assert ahead(waits("b", 1), waits("c", 4, left=101), waits("d", 1, left=None)) == []
    assert ahead(waits("b", 1, left=100), waits("c", 3, left=50)) == ["b", "c"]
    assert ahead(waits("b", 4, preemptible=True)) == ["b"]
    assert ahead(waits("b", 4, preemptible=True, priority=5)) == []
    spare = [holds("x", [0, 1, 2], left=100), holds("y", [3])]
    made = plan([head, waits("b", 2), waits("c", 1), waits("d", 1)], spare, EIGHT, Limits(), NOW)
    assert started(made) == ["c"]
    assert made.head is not None
    assert made.head.start == NOW + 100


def test_all_that_ends_at_the_moment_of_the_reservation_counts() -> None:
    holding = [holds("x", range(3), 100), holds("y", range(3, 6), 100)]
    made = plan([waits("a", 5, priority=1), waits("b", 2)], holding, EIGHT, Limits(), NOW)
    assert started(made) == ["b"]


def test_what_the_head_will_hold_counts_for_its_owner() -> None:
    """Else the head would be passed over in its turn."""
    waiting = [waits("a", 3, priority=1), waits("b", 2, 1), waits("c", 1, 1)._replace(owner="cy")]
    made = plan(waiting, [holds("x", range(6), 100)], EIGHT, Limits(slots_per_user=4), NOW)
    assert started(made) == ["c"]
    assert made.reason("b") == "would give ada more than the 4 slots that a user may hold"


def test_without_time_limits_only_what_can_be_suspended_runs_ahead() -> None:
    waiting = [waits("a", 6, priority=5), waits("b", 1, left=1), waits("c", 1), waits("d", 1, preemptible=True)]
    made = plan(waiting, [holds("x", range(4))], EIGHT, Limits(), NOW)
    assert made.head is not None
    assert made.head.start is None
    assert started(made) == ["d"]


def test_victims_are_few_then_low_then_young() -> None:
    def victims(ranks: int, *holding: Holding) -> list[str]:
        return plan([waits("a", ranks, priority=5)], holding, EIGHT, Limits(), NOW).preempts

    def may(job_id: str, slots: Sequence[int], started: float = 0, priority: int = 0) -> Holding:
        return holds(job_id, slots, preemptible=True)._replace(started=started, priority=priority)

    small, large = [may("p", [0, 1]), may("q", [2, 3])], may("r", [4, 5, 6, 7], priority=4)
    assert victims(4, *small, large) == ["r"]
    assert victims(2, may("p", EIGHT[:4], started=1), may("q", EIGHT[4:], started=2)) == ["q"]
    assert victims(2, may("p", EIGHT[:4], started=1), may("q", EIGHT[4:], started=2, priority=1)) == ["p"]
    assert victims(5, *small, large._replace(priority=5)) == []  # the other two are not enough
    assert victims(4, *small, large._replace(leaving=True)) == []  # enough is being given back
    assert victims(5, *small, large._replace(leaving=True)) in (["p"], ["q"])


def test_nothing_takes_the_slots_that_the_head_is_about_to_get() -> None:
    """Not even what could be suspended: it would have to be at once."""
    holding = [holds("x", range(6))._replace(leaving=True)]
    waiting = [waits("a", 6, priority=5), waits("b", 2, preemptible=True), waits("c", 2), waits("d", 1)]
    assert started(plan(waiting, holding, EIGHT, Limits(), NOW)) == ["b"]
    waiting[0] = waiting[0]._replace(ranks=7)
    assert started(plan(waiting, holding, EIGHT, Limits(), NOW)) == ["d"]


def test_a_queue_in_another_order_is_refused() -> None:
    with pytest.raises(ValueError, match="job b is out of order"):
        plan([waits("a", 1), waits("b", 1, priority=1)], [], EIGHT, Limits(), NOW)


def test_slots_that_are_gone_come_back_to_nobody() -> None:
    """The controller was started again with fewer: 4 to 7 are held by a job that was adopted."""
    made = plan([waits("a", 3)], [holds("x", [1, 2, 3, 4, 5, 6, 7], left=9)], range(4), Limits(), NOW)
    assert made.head is not None
    assert made.head.start == NOW + 9
    assert made.starts == []


def test_a_full_house_reads_no_further_than_the_head() -> None:
    read = []

    def reading() -> Iterator[Waiting]:
        for number in range(100_000):
            read.append(number)
            yield waits("a", 1)._replace(order=number)

    assert plan(reading(), [holds("x", EIGHT)], EIGHT, Limits(), NOW).starts == []
    assert len(read) == 1
    assert plan(reading(), [holds("x", range(1, 8))], EIGHT, Limits(), NOW).starts == [("a", (0,))]
    assert len(read) == 3
