"""How MLflow is told of the end of a job: what is not told any more, and what waits until somebody listens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attempts import until
from stored_jobs import a_job

from deepgen.controller.delivery import MLFLOW, SECONDS_BETWEEN_PROBES, Delivery
from deepgen.controller.jobs import end
from deepgen.controller.launch import RUN, job_folder
from deepgen.controller.reading import OutboxItem
from deepgen.controller.store import Store
from deepgen.v1.job_pb2 import Job

CLOSED = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "controller.db")
    yield opened
    opened.close()


def entry(store: Store, state: Path, name: str, ended: bool) -> None:
    """A job, and that MLflow is to be told of its failure."""
    run = job_folder(state, name) / RUN
    (run / "log").mkdir(parents=True)
    told = json.dumps({"folder": str(run), "status": "FAILED", "reason": ""}).encode()
    store.write(lambda transaction: transaction.insert_job(a_job(name), "ada")).result()
    if ended:
        over = lambda known: end(known.copy(), Job.FAILED, "", 0.0, 1)  # noqa: E731
        store.write(lambda transaction: transaction.change(name, over, "controller")).result()
    store.write(lambda transaction: transaction.send(MLFLOW, name, told, 0.0)).result()


def waiting(store: Store) -> list[OutboxItem]:
    with store.reader() as reader:
        return reader.outbox(1e12, 9)


def test_an_end_that_a_retry_has_taken_back_is_not_told(store: Store, tmp_path: Path) -> None:
    """Its recorder would meet the tracker of the run that is at work again, and come back for ever."""
    entry(store, tmp_path, "one", ended=False)
    delivery = Delivery(store, tmp_path, "")
    delivery.turn(10.0)
    assert waiting(store) == []
    delivery.close()


def test_while_nobody_listens_one_is_tried_now_and_then_and_none_is_lost(store: Store, tmp_path: Path) -> None:
    names = ["one", "two", "three", "four"]
    for name in names:
        entry(store, tmp_path, name, ended=True)
    delivery = Delivery(store, tmp_path, CLOSED)
    now = time.time()
    delivery.turn(now)
    begun = len(delivery._at_work)
    until(lambda: delivery.turn(now) is not None and not delivery._at_work)
    tried = [item for item in waiting(store) if item.tries]
    assert len(tried) == begun < len(names) == len(waiting(store))
    assert {item.due for item in tried} == {now + SECONDS_BETWEEN_PROBES}
    delivery.turn(now + SECONDS_BETWEEN_PROBES / 2)
    assert not delivery._at_work
    delivery.turn(now + SECONDS_BETWEEN_PROBES)
    assert delivery._at_work
    delivery.close()
