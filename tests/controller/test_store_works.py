"""Works of one commit: each is undone alone, done again when another failed, and sees those before it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from stored_jobs import a_job, held, insert, submit

from deepgen.controller.filters import parse
from deepgen.controller.jobs import Refused
from deepgen.controller.store import Store
from deepgen.controller.transaction import Transaction
from deepgen.v1.job_pb2 import Job, JobProgress


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "controller.db")
    yield opened
    opened.close()


def test_a_work_that_fails_is_undone_alone(store: Store) -> None:
    def fails(tx: Transaction) -> None:
        submit(tx, a_job("bad"))
        tx.progress("good-1", JobProgress(step=7))
        raise ZeroDivisionError

    heard: list[int] = []
    store.listen(heard.append)
    with held(store):
        first = store.write(partial(submit, job=a_job("good-1")))
        bad = store.write(fails)
        second = store.write(partial(submit, job=a_job("good-2")))
    assert (first.result().sequence, second.result().sequence) == (1, 2)
    with pytest.raises(ZeroDivisionError):
        bad.result()
    store.write(lambda tx: None).result()
    assert heard == [2], "one commit"
    with store.reader() as reader:
        assert not reader.exists("bad")
        assert not reader.job("good-1").HasField("progress")  # type: ignore[union-attr]
        assert [item.key for item in reader.outbox(1.0, 9)] == ["jobs/good-1", "jobs/good-2"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_works_are_done_again_when_one_fails_after_it_wrote(store: Store, place: int) -> None:
    """Labels are written at once, events are kept aside: neither may be there twice, or of the bad one."""
    done: list[str] = []

    def work(tx: Transaction, name: str) -> Job:
        done.append(name)
        made = a_job(name)
        made.labels["team"] = "nlp"
        kept = tx.insert_job(made, "ada")
        if name == "bad":
            raise ZeroDivisionError
        return kept

    names = ["one", "two"]
    names.insert(place, "bad")
    with held(store):
        futures = [store.write(partial(work, name=name)) for name in names]
    kept = [future.result() for name, future in zip(names, futures, strict=True) if name != "bad"]
    assert isinstance(futures[place].exception(), ZeroDivisionError)
    assert done.count("bad") == 2
    assert [job.sequence for job in kept] == [1, 2]
    with store.reader() as reader:
        assert [(event.sequence, event.job) for event in reader.events(0, 9)] == list(enumerate(kept, 1))
        labelled, _ = reader.page(parse("labels.team = nlp", "create_time"), 9)
        assert [job.name for job in labelled] == ["jobs/one", "jobs/two"]


def test_a_refusal_before_anything_was_written_costs_the_others_nothing(store: Store) -> None:
    insert(store, "known")
    done: list[str] = []

    def work(tx: Transaction, name: str) -> Job:
        done.append(name)
        return tx.insert_job(a_job(name), "ada")

    with held(store):
        futures = [store.write(partial(work, name=name)) for name in ("one", "known", "two")]
    with pytest.raises(Refused, match="there is a job 'known' already"):
        futures[1].result()
    assert [futures[0].result().sequence, futures[2].result().sequence] == [2, 3]
    assert done == ["one", "known", "two"]


def test_a_work_reads_what_was_written_before_it_in_the_same_commit(store: Store) -> None:
    def look(tx: Transaction) -> tuple[int, int, list[str]]:
        return tx.first_sequence(), tx.newest_sequence(), [event.job.name for event in tx.events(0, 9)]

    with held(store):
        store.write(lambda tx: tx.insert_job(a_job("one"), "ada"))
        seen = store.write(look)
        store.write(lambda tx: tx.insert_job(a_job("two"), "ada"))
    assert seen.result() == (1, 1, ["jobs/one"])
    with store.reader() as reader:
        assert [event.sequence for event in reader.events(0, 9)] == [1, 2]


def test_who_gave_up_before_the_work_began_gets_nothing_done(store: Store) -> None:
    with held(store):
        given_up = store.write(partial(submit, job=a_job("given-up")))
        assert given_up.cancel()
    insert(store, "other")
    with store.reader() as reader:
        assert not reader.exists("given-up")
