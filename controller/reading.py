"""What is read from the store: jobs, attempts, events, the outbox."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deepgen.v1.controller_pb2 import JobEvent
from deepgen.v1.job_pb2 import Attempt, Job, JobProgress

from .filters import Cursor, Query
from .jobs import LIVE, Ledger, Record, Refused, State, stamp
from .scheduler import Waiting

BYTES = 2 * 1024 * 1024
"""A page and a batch of events end early when they have more: gRPC takes 4 MiB in a message."""
FEW = 2000
"""Jobs that are looked at one by one and sorted, instead of walking over all in their order."""
_JOB = "SELECT job.body, progress.body FROM job LEFT JOIN progress ON progress.job = job.number"
_LIVE = f"job.state IN ({', '.join(map(str, LIVE))})"
"""With the numbers in the text, as the condition of the index has them."""


@dataclass(frozen=True)
class OutboxItem:
    """Something that another system is to be told."""

    number: int
    kind: str
    key: str
    payload: bytes
    due: float
    tries: int
    """That have failed."""


class Reader:
    """A view of the store that does not change while it is open; for one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _number(self, statement: str, *parameters: object) -> int:
        return int(self._connection.execute(statement, parameters).fetchone()[0] or 0)

    def job(self, job_id: str) -> Job | None:
        """With its progress; None when there is none of that ID."""
        row = self._connection.execute(f"{_JOB} WHERE job.id = ?", (job_id,)).fetchone()
        return None if row is None else parse_job(*row)

    def exists(self, job_id: str) -> bool:
        """Whether the ID is taken."""
        return self._connection.execute("SELECT 1 FROM job WHERE id = ?", (job_id,)).fetchone() is not None

    def scene(self, job_id: str) -> str | None:
        """The scene that a job runs, as it was admitted; None where its row has none."""
        row = self._connection.execute(
            "SELECT admitted.scene FROM admitted JOIN job ON job.number = admitted.job WHERE job.id = ?", (job_id,)
        ).fetchone()
        return None if row is None else zlib.decompress(row[0]).decode()

    def ledger(self, job_id: str) -> Ledger:
        """Of a job that is there; Refused (NOT_FOUND) otherwise."""
        return self.record(job_id).ledger

    def record(self, job_id: str) -> Record:
        """The job with its ledger and its newest attempt; Refused (NOT_FOUND) when it is not there."""
        row = self._connection.execute(
            "SELECT job.body, progress.body, job.ledger, attempt.body FROM job "
            "LEFT JOIN progress ON progress.job = job.number "
            "LEFT JOIN attempt ON attempt.job = job.number "
            "WHERE job.id = ? ORDER BY attempt.number DESC LIMIT 1",
            (job_id,),
        ).fetchone()
        if row is None:
            raise Refused(f"there is no job {job_id!r}", "NOT_FOUND", "name")
        attempt = None if row[3] is None else Attempt.FromString(row[3])
        return Record(parse_job(row[0], row[1]), Ledger.from_json(row[2]), attempt)

    def attempt(self, job_id: str, number: int) -> Attempt | None:
        """None when there is none."""
        row = self._connection.execute(
            "SELECT attempt.body FROM attempt JOIN job ON job.number = attempt.job "
            "WHERE job.id = ? AND attempt.number = ?",
            (job_id, number),
        ).fetchone()
        return None if row is None else Attempt.FromString(row[0])

    def attempts(self, job_id: str) -> list[Attempt]:
        """All of a job, the first one first."""
        rows = self._connection.execute(
            "SELECT attempt.body FROM attempt JOIN job ON job.number = attempt.job "
            "WHERE job.id = ? ORDER BY attempt.number",
            (job_id,),
        )
        return [Attempt.FromString(body) for (body,) in rows]

    def page(self, query: Query, size: int, after: Cursor | None = None) -> tuple[list[Job], Cursor | None]:
        """At most `size` jobs behind `after`, and where the next page begins; None after the last."""
        selected, parameters = query.select(after, self._few(query))
        way = "DESC" if query.descending else "ASC"
        rows = self._connection.execute(
            f"SELECT job.body, progress.body, page.key, page.number FROM ({selected} LIMIT ?) AS page "
            "CROSS JOIN job ON job.number = page.number LEFT JOIN progress ON progress.job = page.number "
            f"ORDER BY page.key {way}, page.number {way}",
            (*parameters, size + 1),
        )
        jobs: list[Job] = []
        last, total = None, 0
        for body, progress, key, number in rows:
            total += len(body)
            if len(jobs) == size or (jobs and total > BYTES):
                return jobs, last
            jobs.append(parse_job(body, progress))
            last = Cursor(key, number)
        return jobs, None

    def _few(self, query: Query) -> int | None:
        """Which label of the query only few jobs have."""
        for place, (labelled, parameters) in enumerate(query.labelled):
            if self._number(f"SELECT count(*) FROM ({labelled} LIMIT {FEW})", *parameters) < FEW:
                return place
        return None

    def live(self) -> list[Job]:
        """Those with an attempt that holds slots, in the order of submission."""
        return [parse_job(*row) for row in self._connection.execute(f"{_JOB} WHERE {_LIVE} ORDER BY job.number")]

    def queued(self, limit: int | None = None, now: float | None = None) -> Iterator[Waiting]:
        """Those that wait, by priority and then submission; with `now` without those whose retry is not due yet.

        They are read as they are asked for, so whoever needs the first of 100,000 does not wait for the others.
        """
        rows = self._connection.execute(
            "SELECT id, priority, number, owner, ranks, preemptible, seconds_left FROM job INDEXED BY job_queue "
            "WHERE state = 1 AND (? IS NULL OR not_before <= ?) ORDER BY priority DESC, number LIMIT ?",
            (now, now, -1 if limit is None else limit),
        )
        return (Waiting(row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6]) for row in rows)

    def next_retry(self, now: float) -> float | None:
        """When the next retry is due that is not due yet, in seconds since 1970."""
        (due,) = self._connection.execute(
            "SELECT min(not_before) FROM job INDEXED BY job_retry WHERE state = 1 AND not_before > ?", (now,)
        ).fetchone()
        return None if due is None else float(due)

    def events(self, after: int, limit: int, job_id: str | None = None) -> list[JobEvent]:
        """The next ones behind `after`, at most `limit`; empty only when there are none."""
        condition = "sequence > :after" if job_id is None else "sequence > :after AND job_id = :job_id"
        rows = self._connection.execute(
            "SELECT sequence, time, type, body, actor, request_id FROM event "
            f"WHERE {condition} ORDER BY sequence LIMIT :limit",
            {"after": after, "job_id": job_id, "limit": limit},
        )
        found, total = [], 0
        for sequence, time, type, body, actor, request_id in rows:
            found.append(
                JobEvent(
                    sequence=sequence,
                    time=stamp(time),
                    type=type,
                    job=Job.FromString(body),
                    actor=actor,
                    request_id=request_id,
                )
            )
            total += len(body)
            if total > BYTES:
                break
        return found

    def newest_sequence(self) -> int:
        """Of the newest event there ever was; 0 before the first."""
        return self._number("SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'")

    def first_sequence(self) -> int:
        """Of the oldest event that is still there; that of the next one when there is none."""
        return self._number("SELECT min(sequence) FROM event") or self.newest_sequence() + 1

    def outbox(self, due: float, limit: int) -> list[OutboxItem]:
        """What is to be sent by `due` (seconds since 1970), the most overdue first."""
        rows = self._connection.execute(
            "SELECT number, kind, key, payload, due, tries FROM outbox WHERE due <= ? ORDER BY due, number LIMIT ?",
            (due, limit),
        )
        return [OutboxItem(*row) for row in rows]

    def next_due(self) -> float | None:
        """When the first item of the outbox is due; None when it is empty."""
        (due,) = self._connection.execute("SELECT min(due) FROM outbox").fetchone()
        return None if due is None else float(due)

    def count(self, owner: str | None, states: Iterable[State]) -> int:
        """Jobs of an owner, or of all, in some states; it takes no longer with more jobs."""
        wanted = list(states)
        condition, parameters = f"state IN ({', '.join('?' * len(wanted))})", [*wanted]
        if owner is not None:
            return self._number(f"SELECT sum(jobs) FROM tally WHERE owner = ? AND {condition}", owner, *parameters)
        return self._number(f"SELECT sum(jobs) FROM tally WHERE {condition}", *parameters)

    def counts(self) -> dict[tuple[str, State], int]:
        """(owner, state) → jobs, where there are some."""
        rows = self._connection.execute("SELECT owner, state, jobs FROM tally WHERE jobs > 0")
        return {(owner, state): jobs for owner, state, jobs in rows}


def parse_job(body: bytes, progress: bytes | None) -> Job:
    """Of what is kept of a job."""
    job = Job.FromString(body)
    if progress is not None:
        job.progress.CopyFrom(JobProgress.FromString(progress))
    return job
