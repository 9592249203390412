"""What the store's tests share: jobs and works; run as a program, it submits jobs until it is killed.

    DEEPGEN_FAULT=store.before_commit:3 python stored_jobs.py FILE

Every name that it prints is of a job that it was told is on the disk.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from deepgen.controller.jobs import job_id
from deepgen.controller.store import Store
from deepgen.controller.submission import new_job
from deepgen.controller.transaction import Transaction
from deepgen.v1.controller_pb2 import CreateJobRequest
from deepgen.v1.job_pb2 import Job


def a_job(
    id: str = "", owner: str = "ada", priority: int = 0, scene: str = "sentiment", now: float | None = None
) -> Job:
    """A new one."""
    asked = CreateJobRequest(job_id=id)
    asked.job.spec.scene, asked.job.priority = scene, priority
    return new_job(asked, owner, time.time() if now is None else now)


def submit(transaction: Transaction, job: Job) -> Job:
    """As the service does: the job, its request, and something to be sent because of it."""
    kept = transaction.insert_job(job, job.owner, request_id=job.uid)
    transaction.remember(job.uid, job.owner, b"digest", job_id(job.name))
    transaction.send("mlflow", job.name, str(kept.sequence).encode(), 0.0)
    return kept


def insert(store: Store, id: str, **more: object) -> Job:
    """A job that is on record."""
    return store.write(partial(submit, job=a_job(id, **more))).result()  # type: ignore[arg-type]


@contextlib.contextmanager
def held(store: Store) -> Iterator[None]:
    """The writer does nothing else meanwhile: what is written inside becomes one commit."""
    begun, free = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        begun.set()
        free.wait(60)

    store.write(hold)
    begun.wait(60)
    try:
        yield
    finally:
        free.set()


def main(path: Path) -> None:
    """Four clients at once."""
    store = Store(path)
    said = threading.Lock()

    def client() -> None:
        while True:
            job = a_job()
            store.write(partial(submit, job=job)).result()
            with said:
                print(job.name, flush=True)

    for _ in range(4):
        threading.Thread(target=client).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
