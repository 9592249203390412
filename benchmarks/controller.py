"""The controller: durable submits and pages of many jobs, by the store alone.

    python benchmarks/controller.py submits [--threads 16] [--seconds 10]   # durable submits/s and their latency
    python benchmarks/controller.py pages [--jobs 100000]                   # memory and the time of a page

Each case runs in this process on a file of its own, in a folder beside this file. The p99 of a submit is from the call
to the answer that it is on the disk.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measure import WORK, tell

from deepgen.controller import attempts, filters
from deepgen.controller.jobs import job_id
from deepgen.controller.store import Store
from deepgen.controller.submission import digest, insert, new_job
from deepgen.controller.transaction import Transaction
from deepgen.v1.controller_pb2 import CreateJobRequest
from deepgen.v1.job_pb2 import Job

FOLDER = WORK / "controller"
OWNERS = [f"user{number}" for number in range(40)]
TEAMS = ("nlp", "vision", "speech")
QUERIES = {
    "all": "",
    "running": "state = RUNNING",
    "queued": "state = QUEUED",
    "two states": "state = (QUEUED OR RUNNING)",
    "failed of one": 'state = FAILED AND owner = "user7"',
    "one owner": 'owner = "user3"',
    "no such owner": 'owner = "nobody"',
    "a common label": "labels.team = nlp",
    "a rare label": "labels.sweep = s5",
    "no such label": "labels.team = nobody",
    "a rare scene": "scene = tags-5 AND state != SUCCEEDED",
    "priority": "priority >= 9",
}


@contextmanager
def store() -> Iterator[Store]:
    """A new one."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    opened = Store(FOLDER / "controller.db")
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(FOLDER)


def request(chosen: random.Random) -> CreateJobRequest:
    """As a user's: a scene, some overrides and labels."""
    job = Job(priority=chosen.choice((0, 0, 0, 5, 10)))
    job.spec.scene = f"{chosen.choice(('sentiment', 'tweets', 'tags'))}-{chosen.randrange(200)}"
    job.spec.overrides.update(learning_rate="3e-5", num_train_epochs="3", output_type="score")
    job.labels.update(team=chosen.choice(TEAMS), sweep=f"s{chosen.randrange(5000)}")
    return CreateJobRequest(job=job, request_id=str(chosen.getrandbits(128)))


def create(asked: CreateJobRequest, owner: str, transaction: Transaction) -> Job:
    """The work of CreateJob."""
    known = transaction.replay(asked.request_id, owner, digest(asked))
    if known is not None:
        return known
    job = insert(transaction, new_job(asked, owner, time.time()), asked)
    transaction.remember(asked.request_id, owner, digest(asked), job_id(job.name))
    return job


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3


def submits(threads: int, seconds: float) -> None:
    """Threads that submit one job after the other."""
    with store() as opened:
        taken: list[list[float]] = [[] for _ in range(threads)]
        until = time.monotonic() + seconds

        def client(number: int) -> None:
            chosen = random.Random(number)
            while (begin := time.monotonic()) < until:
                opened.write(partial(create, request(chosen), OWNERS[number % len(OWNERS)])).result()
                taken[number].append(time.monotonic() - begin)

        clients = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
        begin = time.monotonic()
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        spent = time.monotonic() - begin
        every = [value for one in taken for value in one]
        with opened.reader() as reader:
            assert reader.count(None, Job.State.values()) == len(every) == reader.newest_sequence()
        tell(
            case="submits",
            threads=threads,
            submits_per_second=len(every) / spent,
            p50_ms=percentile(every, 0.5),
            p99_ms=percentile(every, 0.99),
            bare_p50_ms=bare_commit(opened.path.parent) * 1e3,
        )


def bare_commit(folder: Path) -> float:
    """Seconds that the disk takes for a write of one page and its fsync."""
    import os

    taken = []
    descriptor = os.open(folder / "bare", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(200):
        begin = time.monotonic()
        os.write(descriptor, bytes(4096))
        os.fdatasync(descriptor)
        taken.append(time.monotonic() - begin)
    os.close(descriptor)
    return statistics.median(taken)


def fill(opened: Store, jobs: int, live: int = 8) -> None:
    """Jobs of which most have ended."""
    chosen = random.Random(0)

    def some(number: int, transaction: Transaction) -> None:
        for _ in range(number):
            now = time.time()
            job = new_job(request(chosen), chosen.choice(OWNERS), now)
            job.state = chosen.choices((Job.SUCCEEDED, Job.FAILED, Job.QUEUED), (80, 15, 5))[0]
            if job.state != Job.QUEUED:
                job.end_time.CopyFrom(job.create_time)
            transaction.insert_job(job, job.owner)

    for _ in range(jobs // 1000):
        opened.write(partial(some, 1000)).result()

    def run(transaction: Transaction) -> None:
        for job_id_, *_ in list(transaction.queued(live)):
            transaction.change(job_id_, lambda record: attempts.start_attempt(record, [0], "u", 0.0), "controller")
            transaction.change(job_id_, lambda record: attempts.attempt_running(record, "u", 0.0), "controller")

    opened.write(run).result()


def timed(work: Callable[[], object], times: int) -> list[float]:
    """Seconds of each call."""
    taken = []
    for _ in range(times):
        begin = time.monotonic()
        work()
        taken.append(time.monotonic() - begin)
    return taken


def pages(jobs: int) -> None:
    """First pages of 50, and pages one after the other, with the memory of the process."""
    with store() as opened:
        fill(opened, jobs)
        everything: list[float] = []
        for name, filter in QUERIES.items():
            for order in filters.ORDERS:
                query = filters.parse(filter, order)

                def page(query: filters.Query, after: filters.Cursor | None) -> filters.Cursor | None:
                    with opened.reader() as reader:
                        return reader.page(query, 50, after)[1]

                taken = timed(partial(page, query, None), 50)
                second = page(query, None)
                if second is not None:
                    taken += timed(partial(page, query, second), 50)
                everything += taken
                tell(
                    case="page", query=name, order=order, p50_ms=percentile(taken, 0.5), p99_ms=percentile(taken, 0.99)
                )
        tell(case="all pages", jobs=jobs, p50_ms=percentile(everything, 0.5), p99_ms=percentile(everything, 0.99))
        query, pages_, position = filters.parse(), 0, None
        begin = time.monotonic()
        while True:
            with opened.reader() as reader:
                _, position = reader.page(query, 1000, position)
            pages_ += 1
            if position is None:
                break
        tell(case="walk", pages=pages_, seconds=time.monotonic() - begin)
        with opened.reader() as reader:
            for name, work in {
                "queued": lambda: list(reader.queued()),
                "queued(64)": lambda: list(reader.queued(64)),
                "live": reader.live,
                "count": lambda: reader.count("user3", [Job.QUEUED, Job.RUNNING]),
                "events": lambda: reader.events(jobs // 2, 100),
            }.items():
                taken = timed(work, 50)
                tell(case=name, p50_ms=percentile(taken, 0.5), p99_ms=percentile(taken, 0.99))
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        size = sum(path.stat().st_size for path in FOLDER.iterdir())
        tell(case="memory", jobs=jobs, resident_mb=resident / 1e6, file_mb=size / 1e6)


def main() -> None:
    """Runs one case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = parser.add_subparsers(dest="case", required=True)
    one = cases.add_parser("submits")
    one.add_argument("--threads", type=int, default=16)
    one.add_argument("--seconds", type=float, default=10)
    one = cases.add_parser("pages")
    one.add_argument("--jobs", type=int, default=100_000)
    given = vars(parser.parse_args())
    {"submits": submits, "pages": pages}[given.pop("case")](**given)


if __name__ == "__main__":
    main()
