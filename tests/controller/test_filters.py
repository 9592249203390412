"""Filters, orders and page tokens of ListJobs, against a real store and against plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_jobs import a_job

from deepgen.controller import filters, reading
from deepgen.controller.jobs import Refused, seconds
from deepgen.controller.store import Store
from deepgen.controller.transaction import Transaction
from deepgen.v1.job_pb2 import Job

BEGIN = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""
JOBS = 300


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("filters") / "controller.db")
    chosen = random.Random(3)

    def fill(transaction: Transaction) -> None:
        for number in range(JOBS):
            job = a_job(
                f"job-{number}",
                chosen.choice(("ada", 'e"ve', "o'hara")),
                chosen.choice((-3, 0, 0, 5)),
                chosen.choice(("sentiment", "scenes/tags.yaml")),
                BEGIN + chosen.randrange(50),  # many at the same moment
            )
            if chosen.random() < 0.5:
                job.labels.update({"team": chosen.choice(("nlp", "AND")), "example.com/x": "1"})
            job.state = chosen.choice((Job.QUEUED, Job.RUNNING, Job.FAILED))
            transaction.insert_job(job, "ada")

    opened.write(fill).result()
    yield opened
    opened.close()


def insert(store: Store, job: Job) -> None:
    store.write(lambda transaction: transaction.insert_job(job, "ada")).result()


def names(store: Store, query: filters.Query, size: int = 1000) -> list[str]:
    """Of all pages, through tokens."""
    found, token = [], ""
    while True:
        with store.reader() as reader:
            jobs, cursor = reader.page(query, size, filters.cursor(query, token))
        assert len(jobs) <= size
        found += [job.name for job in jobs]
        token = filters.page_token(query, cursor)
        if not token:
            return found


def every(store: Store) -> list[Job]:
    with store.reader() as reader:
        return reader.page(filters.parse(), 1000)[0]


@pytest.mark.parametrize(
    ("filter", "wanted"),
    [
        ("", lambda job: True),
        ("state = RUNNING", lambda job: job.state == Job.RUNNING),
        ("state!=QUEUED", lambda job: job.state != Job.QUEUED),
        ("state = (QUEUED OR RUNNING)", lambda job: job.state in (Job.QUEUED, Job.RUNNING)),
        ("state != (QUEUED OR RUNNING) AND priority=5", lambda job: job.state == Job.FAILED and job.priority == 5),
        ('owner = "ada"', lambda job: job.owner == "ada"),
        ('owner = "e\\"ve"', lambda job: job.owner == 'e"ve'),
        ('owner = "o\'hara" AND state = FAILED', lambda job: job.owner == "o'hara" and job.state == Job.FAILED),
        ("scene = scenes/tags.yaml", lambda job: job.spec.scene == "scenes/tags.yaml"),
        ("labels.team = nlp", lambda job: job.labels.get("team") == "nlp"),
        ('labels.team = "AND"', lambda job: job.labels.get("team") == "AND"),
        ('labels.team = (nlp OR "AND")', lambda job: "team" in job.labels),
        ("labels.team != nlp", lambda job: job.labels.get("team") != "nlp"),
        ("labels.example.com/x = 1", lambda job: "example.com/x" in job.labels),
        ("priority >= 0", lambda job: job.priority >= 0),
        ("priority = (-3 OR 5)", lambda job: job.priority in (-3, 5)),
        ('create_time > "2026-01-01T00:00:20Z"', lambda job: seconds(job.create_time) > BEGIN + 20),
        ("create_time <= 2026-01-01T01:00:20+01:00", lambda job: seconds(job.create_time) <= BEGIN + 20),
    ],
)
@pytest.mark.parametrize("order", filters.ORDERS)
@pytest.mark.parametrize("few", [reading.FEW, 0])
def test_a_filter_and_an_order_give_what_plain_python_gives(
    store: Store, filter: str, wanted: Callable[[Job], bool], order: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FEW", few)  # both ways to find jobs by their label
    jobs = [job for job in every(store) if wanted(job)]
    jobs.sort(
        key=lambda job: (
            seconds(job.create_time) if "time" in order else job.priority,
            int(job.name.rsplit("-", 1)[1]),
        ),
        reverse="desc" in order,
    )
    assert jobs
    query = filters.parse(filter, order)
    assert names(store, query) == names(store, query, 37) == [job.name for job in jobs]


def test_an_owner_sees_only_own_jobs(store: Store) -> None:
    found = names(store, filters.parse('state = QUEUED AND owner = "ada"', owner="o'hara"))
    assert found == []
    assert len(names(store, filters.parse(owner="ada"))) == sum(job.owner == "ada" for job in every(store))


def test_jobs_that_come_meanwhile_neither_repeat_nor_hide_others(tmp_path: Path) -> None:
    store = Store(tmp_path / "controller.db")
    for number in range(6):
        insert(store, a_job(f"old-{number}"))
    query = filters.parse()
    with store.reader() as reader:
        first, cursor = reader.page(query, 3)
    insert(store, a_job("new-1"))
    store.write(lambda transaction: transaction.delete_job("old-3", "ada")).result()
    with store.reader() as reader:
        rest, end = reader.page(query, 10, cursor)
    assert [job.name for job in (*first, *rest)] == [f"jobs/old-{number}" for number in range(5, -1, -1)]
    assert end is None
    store.close()


def test_a_page_of_long_jobs_is_a_short_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "controller.db")
    for number in range(6):
        job = a_job(f"job-{number}")
        job.spec.inline_scene = "x" * (reading.BYTES // 3)
        insert(store, job)
    with store.reader() as reader:
        assert len(reader.page(filters.parse(), 50)[0]) == 2
        assert len(reader.events(0, 50)) == 3
    assert len(names(store, filters.parse())) == 6
    store.close()


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ("state = RUNING", "'RUNING'; did you mean 'RUNNING'?"),
        ("state = running", "did you mean 'RUNNING'?"),
        ("stat = RUNNING", "'stat'; did you mean 'state'?"),
        ("labels = nlp", "'labels'"),
        ("labels. = nlp", "'labels.'"),
        ("state", "'state' where a term such as state = RUNNING belongs"),
        ("state =", "'state ='"),
        ("state = RUNNING AND", "ends with AND"),
        ("state = RUNNING OR owner = ada", "'OR' between terms"),
        ("state = RUNNING owner = ada", "'owner' between terms"),
        ("state = (RUNNING", "choice"),
        ("state = ()", "')'"),
        ("state = (RUNNING AND QUEUED)", "choice"),
        ("state > RUNNING", "state by >"),
        ("priority > (1 OR 2)", "priority by >"),
        ("priority = high", "a whole number"),
        ("priority = 99999999999999999999", "a whole number"),
        ("create_time > yesterday", "2026-01-01T00:00:00Z"),
        ("create_time > 2026-01-01T00:00:00", "with a zone"),
        ("owner = 'ada'", "from \"'ada'\" on"),
        ('owner = "ada', "cannot be read"),
        ("owner = ada; DROP TABLE job", "cannot be read"),
        ("priority = 1 AND " * 20 + "priority = 1", "21 terms"),
        (f"priority = ({' OR '.join(['1'] * 51)})", "more than 50"),
        ("x" * 2001, "2001 characters"),
    ],
)
def test_a_wrong_filter_is_said_in_a_line(filter: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        filters.parse(filter)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (refused.value.reason, refused.value.field) == ("INVALID_ARGUMENT", "filter")


def test_a_wrong_order_is_said_in_a_line() -> None:
    with pytest.raises(Refused, match="did you mean 'priority desc'") as refused:
        filters.parse(order_by="priority dsc")
    assert refused.value.field == "order_by"
    assert filters.parse(order_by=" create_time   asc ") == filters.parse(order_by="create_time")


@given(st.text(alphabet="state=RUNIG AD()\"\\OR!<>labels.priority0-:;' \n\x00é", max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        query = filters.parse(text)
    except Refused:
        return
    assert query.select(None)[0].count("?") == len(query.parameters)


def test_a_token_is_of_its_query_alone() -> None:
    query, cursor = filters.parse("state = RUNNING"), filters.Cursor(5, 7)
    token = filters.page_token(query, cursor)
    assert filters.cursor(query, token) == cursor
    assert filters.cursor(query, "") is None
    others = [filters.parse("state = QUEUED"), filters.parse("state = RUNNING", owner="ada"), filters.parse()]
    for other, given_ in [*((other, token) for other in others), (query, "x"), (query, token[:-4]), (query, "é" * 32)]:
        with pytest.raises(Refused, match="begin without a token") as refused:
            filters.cursor(other, given_)
        assert refused.value.field == "page_token"
