"""The store: what is written together, read together, and told in which order."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from stored_jobs import a_job, insert, submit

from deepgen.controller import attempts, jobs, transaction
from deepgen.controller.jobs import Refused
from deepgen.controller.scheduler import Waiting
from deepgen.controller.store import Store, StoreUnavailable
from deepgen.kernel.errors import UserError
from deepgen.v1.controller_pb2 import JobEvent
from deepgen.v1.job_pb2 import Attempt, Job, JobProgress


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = Store(tmp_path / "state" / "controller.db", clock)
    yield opened
    opened.close()


def change(store: Store, id: str, rule: Callable[[jobs.Record], jobs.Record]) -> Job:
    return store.write(lambda tx: tx.change(id, rule, "controller")).result()


def start(store: Store, id: str) -> Job:
    change(store, id, lambda record: attempts.start_attempt(record, [0], "u1", 1.0))
    return change(store, id, lambda record: attempts.attempt_running(record, "u1", 2.0))


def test_a_job_comes_with_its_event_request_and_outbox(store: Store, clock: Clock) -> None:
    job = insert(store, "some-job")
    assert (job.sequence, bool(job.etag), jobs.seconds(job.update_time)) == (1, True, clock.now)
    with store.reader() as reader:
        assert reader.job("some-job") == job
        assert reader.exists("some-job")
        (event,) = reader.events(0, 10)
        assert (event.sequence, event.type, event.job, event.actor) == (1, JobEvent.CREATED, job, "ada")
        assert [(item.kind, item.key, item.payload) for item in reader.outbox(1.0, 10)] == [("mlflow", job.name, b"1")]
        assert reader.job("other") is None
        with pytest.raises(Refused, match="no job 'other'"):
            reader.record("other")
        assert reader.exists("some-job"), "a refusal does not end a reader"


def test_a_change_is_an_event_with_another_etag(store: Store) -> None:
    first = insert(store, "some-job")
    last = start(store, "some-job")
    assert first.etag != last.etag
    with store.reader() as reader:
        assert [event.job.state for event in reader.events(0, 10)] == [Job.QUEUED, Job.STARTING, Job.RUNNING]
        assert [event.sequence for event in reader.events(1, 10)] == [2, 3]
        record = reader.record("some-job")
        assert record.job == last == reader.live()[0]
        assert record.attempt is not None
        assert (record.attempt.uid, reader.attempts("some-job")) == ("u1", [record.attempt])
        assert reader.attempt("some-job", 1) == record.attempt
        assert reader.attempt("some-job", 2) is None


def test_a_rule_that_changes_nothing_is_no_event(store: Store) -> None:
    insert(store, "some-job")
    cancelled = change(store, "some-job", lambda record: jobs.ask_cancel(record, 1.0))
    assert change(store, "some-job", lambda record: jobs.ask_cancel(record, 2.0)) == cancelled
    with store.reader() as reader:
        assert reader.newest_sequence() == 2


def test_a_job_that_was_read_before_another_change_is_not_written(store: Store) -> None:
    stale = insert(store, "some-job")
    start(store, "some-job")
    with pytest.raises(Refused, match="read it again") as refused:
        store.write(lambda tx: tx.put_job(stale, "controller")).result()
    assert refused.value.reason == "ABORTED"
    with pytest.raises(Refused) as refused:
        store.write(lambda tx: tx.put_job(a_job("other"), "controller")).result()
    assert refused.value.reason == "NOT_FOUND"


def test_a_reader_sees_one_moment(store: Store) -> None:
    insert(store, "some-job")
    with store.reader() as reader:
        assert reader.newest_sequence() == 1
        insert(store, "other")
        assert reader.newest_sequence() == 1
        assert not reader.exists("other")
        with store.reader() as second:
            assert second.exists("other")


def test_listeners_hear_of_events_only_until_they_stop(store: Store) -> None:
    heard: list[int] = []
    failing = store.listen(lambda newest: 1 // 0)
    stop = store.listen(heard.append)
    insert(store, "some-job")
    store.write(lambda tx: tx.progress("some-job", JobProgress(step=1))).result()
    insert(store, "other")
    store.write(lambda tx: None).result()  # the listeners of the commit before were called
    stop()
    failing()
    insert(store, "third")
    store.write(lambda tx: None).result()
    assert heard == [1, 2]


def test_progress_is_no_history(store: Store) -> None:
    job = insert(store, "some-job")
    store.write(lambda tx: tx.progress("some-job", JobProgress(step=1))).result()
    store.write(lambda tx: tx.progress("some-job", JobProgress(step=2, values={"loss": 0.5}))).result()
    store.write(lambda tx: tx.progress("not-there", JobProgress(step=2))).result()
    with store.reader() as reader:
        known = reader.job("some-job")
        assert known is not None
        assert (known.progress.step, known.etag, reader.newest_sequence()) == (2, job.etag, 1)
    assert start(store, "some-job").progress.step == 2
    with store.reader() as reader:
        assert reader.events(2, 1)[0].job.progress.step == 2
    change(store, "some-job", lambda record: jobs.ask_cancel(record, 1.0))
    change(store, "some-job", lambda record: attempts.end_attempt(record, "u1", Attempt.CANCELLED, "", 1.0))
    assert not change(store, "some-job", lambda record: jobs.retry(record, 1.0, True)).HasField("progress")
    with store.reader() as reader:
        assert not reader.record("some-job").job.HasField("progress")
        assert reader.ledger("some-job").from_scratch


def test_a_request_that_is_sent_again_finds_its_job(store: Store) -> None:
    job = insert(store, "some-job")
    assert store.write(lambda tx: tx.replay(job.uid, "ada", b"digest")).result() == job
    assert store.write(lambda tx: tx.replay(job.uid, "eve", b"digest")).result() is None
    with pytest.raises(Refused, match="take a new one") as refused:
        store.write(lambda tx: tx.replay(job.uid, "ada", b"other")).result()
    assert refused.value.field == "request_id"
    store.write(lambda tx: tx.delete_job("some-job", "ada")).result()
    insert(store, "some-job")
    with pytest.raises(Refused, match="was deleted since"):
        store.write(lambda tx: tx.replay(job.uid, "ada", b"digest")).result()


def test_a_deleted_job_leaves_its_history_and_what_is_to_be_sent(store: Store) -> None:
    insert(store, "some-job")
    start(store, "some-job")
    store.write(lambda tx: tx.progress("some-job", JobProgress(step=1))).result()
    label = partial(jobs.update, labels={"team": "nlp"})
    store.write(lambda tx: tx.change("some-job", label, "ada", JobEvent.UPDATED)).result()
    with pytest.raises(Refused, match="already"):
        insert(store, "some-job")
    store.write(lambda tx: tx.delete_job("some-job", "eve")).result()
    with store.reader() as reader:
        assert not reader.exists("some-job")
        assert reader.attempts("some-job") == []
        last = reader.events(0, 10)[-1]
        assert (last.type, last.sequence, last.actor, last.job.name) == (JobEvent.DELETED, 5, "eve", "jobs/some-job")
        assert len(reader.outbox(1.0, 9)) == 1
        assert reader.counts() == {}
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        for table in ("job", "label", "progress", "attempt"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert insert(store, "some-job").sequence == 6
    with pytest.raises(Refused, match="no job"):
        store.write(lambda tx: tx.delete_job("other", "eve")).result()


def test_the_queue_is_by_priority_and_submission(store: Store, clock: Clock) -> None:
    for id, priority in (("low", -5), ("first", 0), ("high", 10), ("second", 0), ("runs", 0), ("failed", 20)):
        insert(store, id, priority=priority)
    for id in ("runs", "failed"):
        start(store, id)
    lost = partial(attempts.end_attempt, uid="u1", cause=Attempt.LAUNCHER_LOST, message="lost", now=clock.now)
    change(store, "failed", lost)
    with store.reader() as reader:
        assert [job.job_id for job in reader.queued()] == ["failed", "high", "first", "second", "low"]
        assert [job.job_id for job in reader.queued(2, clock.now)] == ["high", "first"]
        assert next(reader.queued(1, clock.now + 1)) == Waiting("failed", 20, 6, "ada", 1, False, None)
        assert (reader.next_retry(clock.now), reader.next_retry(clock.now + 1)) == (clock.now + 1, None)
        assert [job.name for job in reader.live()] == ["jobs/runs"]
        assert reader.count("ada", [Job.QUEUED]) == 5
        assert (reader.count(None, jobs.LIVE), reader.count("eve", jobs.LIVE), reader.count(None, [])) == (1, 0, 0)
        assert reader.counts() == {("ada", Job.QUEUED): 5, ("ada", Job.RUNNING): 1}


def test_an_update_moves_a_job_in_the_queue_and_in_lists(store: Store) -> None:
    insert(store, "first")
    insert(store, "second")
    update = partial(jobs.update, priority=3, labels={"team": "nlp"})
    store.write(lambda tx: tx.change("second", update, "ada", JobEvent.UPDATED)).result()
    with store.reader() as reader:
        assert [job.job_id for job in reader.queued()] == ["second", "first"]
        assert reader.events(2, 1)[0].type == JobEvent.UPDATED


def test_events_of_one_job(store: Store) -> None:
    insert(store, "one", owner="ada")
    insert(store, "two", owner="eve")
    start(store, "one")
    with store.reader() as reader:
        assert [event.sequence for event in reader.events(0, 9, job_id="one")] == [1, 3, 4]


def test_what_was_replaced_in_the_outbox_is_still_to_be_sent(store: Store) -> None:
    def send(payload: bytes, due: float) -> None:
        store.write(lambda tx: tx.send("mlflow", "k", payload, due)).result()

    def waiting(now: float) -> list[tuple[bytes, int]]:
        with store.reader() as reader:
            return [(item.payload, item.tries) for item in reader.outbox(now, 9)]

    send(b"old", 5.0)
    assert waiting(4.0) == []
    with store.reader() as reader:
        (old,) = reader.outbox(5.0, 9)
        assert reader.next_due() == 5.0
    store.write(lambda tx: tx.postponed(old, 8.0, "no connection")).result()
    assert (waiting(5.0), waiting(8.0)) == ([], [(b"old", 1)])
    send(b"new", 6.0)
    store.write(lambda tx: tx.delivered(old)).result()
    store.write(lambda tx: tx.postponed(old, 99.0, "")).result()
    assert waiting(6.0) == [(b"new", 0)]
    with store.reader() as reader:
        (new,) = reader.outbox(6.0, 9)
    store.write(lambda tx: tx.delivered(new)).result()
    with store.reader() as reader:
        assert reader.next_due() is None


def test_compaction_keeps_the_newest_and_the_numbers(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "COMPACTED", 4)
    job, *_ = [insert(store, f"job-{number}") for number in range(10)]
    with store.reader() as reader:
        assert reader.first_sequence() == 1
    removed = [store.write(lambda tx: tx.compact(3)).result() for _ in range(3)]
    assert removed == [4, 3, 0]
    with store.reader() as reader:
        assert (reader.first_sequence(), reader.newest_sequence()) == (8, 10)
    assert store.write(lambda tx: tx.compact(0)).result() == 3
    with store.reader() as reader:
        assert (reader.first_sequence(), reader.newest_sequence()) == (11, 10)
    assert insert(store, "later").sequence == 11
    assert store.write(lambda tx: tx.replay(job.uid, "ada", b"digest")).result() == job
    clock.now += transaction.REQUESTS_KEPT + 1
    assert [store.write(lambda tx: tx.compact(9)).result() for _ in range(4)] == [4, 4, 3, 0]
    assert store.write(lambda tx: tx.replay(job.uid, "ada", b"digest")).result() is None


def test_all_is_there_after_a_close(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    store = Store(path)
    futures = [store.write(partial(submit, job=a_job(f"job-{number}"))) for number in range(100)]
    store.close()
    store.close()
    assert [future.result().sequence for future in futures] == list(range(1, 101))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.write(lambda tx: None)
    with pytest.raises(StoreUnavailable, match="closed"), store.reader():
        pass
    again = Store(path)
    with again.reader() as reader:
        assert reader.newest_sequence() == reader.count("ada", [Job.QUEUED]) == 100
    again.close()


def test_many_threads_write_and_read(store: Store) -> None:
    problems: list[BaseException] = []

    def client(number: int) -> None:
        try:
            for each in range(20):
                job = insert(store, f"job-{number}-{each}")
                with store.reader() as reader:
                    assert reader.job(f"job-{number}-{each}") == job
                    assert reader.events(job.sequence - 1, 1)[0].job == job
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with store.reader() as reader:
        assert [event.sequence for event in reader.events(0, 999)] == list(range(1, 241))


def test_a_file_is_of_one_controller_and_its_owner_alone(store: Store) -> None:
    with pytest.raises(UserError, match="is used by another controller"):
        Store(store.path)
    insert(store, "some-job")
    assert {path.stat().st_mode & 0o777 for path in store.path.parent.iterdir()} == {0o600}
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
