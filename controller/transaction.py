"""What is written to the store, by one work at a time.

A job's row, its event and what is sent because of it are written in one transaction, so that none is ever without the
others. Events are kept aside until somebody reads them or the works are done, and are then written by one statement:
each statement costs as much in waiting for the other threads as in work.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from deepgen.v1.controller_pb2 import JobEvent
from deepgen.v1.job_pb2 import Attempt, Job, JobProgress

from .jobs import Ledger, Record, Refused, attempt_number, job_id, seconds_left, stamp, taken
from .reading import OutboxItem, Reader, parse_job

EventType: TypeAlias = "JobEvent.Type.ValueType"
EVENTS_A_STATEMENT = 64
COMPACTED = 10_000
"""Rows that one call of `compact` removes at most, so that no other write waits for long."""
REQUESTS_KEPT = 7 * 86400.0
"""Seconds for which a request ID is remembered."""


class Transaction(Reader):
    """A work's view of the store, in which it also writes; valid only while the work runs."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        super().__init__(connection)
        self._clock = clock
        self._newest = super().newest_sequence()
        self._events: list[tuple[object, ...]] = []
        """Rows that are not written yet; what was written of them before is not here any more."""

    def mark(self) -> tuple[int, int, int]:
        """Where a work begins, for `undo`."""
        return self._connection.total_changes, self._newest, len(self._events)

    def undo(self, mark: tuple[int, int, int]) -> bool:
        """Forgets what a work has kept aside since the mark; whether that was all that it wrote."""
        changes, self._newest, events = mark
        del self._events[events:]
        return self._connection.total_changes == changes

    def flush(self) -> None:
        """Writes what was kept aside."""
        rows, self._events = self._events, []
        for begin in range(0, len(rows), EVENTS_A_STATEMENT):
            some = rows[begin : begin + EVENTS_A_STATEMENT]
            values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(some))
            self._connection.execute(f"INSERT INTO event VALUES {values}", list(itertools.chain(*some)))

    def newest_sequence(self) -> int:
        """Of the newest event there ever was, with those that are not written yet."""
        return self._newest

    def first_sequence(self) -> int:
        """Of the oldest event that is still there."""
        self.flush()
        return super().first_sequence()

    def events(self, after: int, limit: int, job_id: str | None = None) -> list[JobEvent]:
        """As `Reader.events`."""
        self.flush()
        return super().events(after, limit, job_id)

    def insert_job(self, job: Job, actor: str, request_id: str = "", scene: bytes = b"") -> Job:
        """Keeps a new job, with its event and its compressed scene; Refused (ALREADY_EXISTS) when its ID is taken."""
        kept, now = self._next(job)
        id = job_id(kept.name)
        columns = _columns(kept, Ledger())
        try:
            number = self._connection.execute(
                f"INSERT INTO job (id, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})", (id, *columns.values())
            ).lastrowid
        except sqlite3.IntegrityError:
            raise taken(id) from None
        if scene:
            self._connection.execute("INSERT INTO admitted VALUES (?, ?)", (number, scene))
        self._label(number, kept)
        self._event(kept, JobEvent.CREATED, actor, request_id, now)
        return kept

    def put_job(
        self,
        job: Job,
        actor: str,
        type: EventType = JobEvent.CHANGED,
        request_id: str = "",
        ledger: Ledger | None = None,
    ) -> Job:
        """Keeps a changed job, with its event; gives it as it is kept, with its new etag.

        Refused (ABORTED) when it was changed since `job` was read, (NOT_FOUND) when it was deleted. Its progress is
        left as it is, or removed when `job` has none.
        """
        id = job_id(job.name)
        row = self._connection.execute("SELECT number, etag, ledger FROM job WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise Refused(f"there is no job {id!r}", "NOT_FOUND", "name")
        number, etag, notes = row
        if etag != job.etag:
            raise Refused(f"{job.name} has changed since etag {job.etag!r}: read it again", "ABORTED", "etag")
        kept, now = self._next(job)
        columns = _columns(kept, Ledger.from_json(notes) if ledger is None else ledger)
        self._connection.execute(
            f"UPDATE job SET {', '.join(f'{name} = ?' for name in columns)} WHERE number = ?",
            (*columns.values(), number),
        )
        if type == JobEvent.UPDATED:
            self._connection.execute("DELETE FROM label WHERE job = ?", (number,))
            self._label(number, kept)
        if not kept.HasField("progress"):
            self._connection.execute("DELETE FROM progress WHERE job = ?", (number,))
        self._event(kept, type, actor, request_id, now)
        return kept

    def put_record(self, record: Record, actor: str, type: EventType = JobEvent.CHANGED, request_id: str = "") -> Job:
        """Keeps job, ledger and newest attempt, with one event of the job; refuses as `put_job` does."""
        kept = self.put_job(record.job, actor, type, request_id, record.ledger)
        if record.attempt is not None:
            self.put_attempt(record.attempt)
        return kept

    def change(
        self,
        job_id: str,
        rule: Callable[[Record], Record],
        actor: str,
        type: EventType = JobEvent.CHANGED,
        request_id: str = "",
    ) -> Job:
        """Applies a rule of jobs.py or attempts.py; writes nothing when it gives back the record it was given."""
        record = self.record(job_id)
        changed = rule(record)
        return record.job if changed is record else self.put_record(changed, actor, type, request_id)

    def put_attempt(self, attempt: Attempt) -> None:
        """Keeps an attempt, new or changed, without an event; Refused (NOT_FOUND) when its job is gone."""
        written = self._connection.execute(
            "INSERT INTO attempt SELECT number, ?, ? FROM job WHERE id = ? "
            "ON CONFLICT (job, number) DO UPDATE SET body = excluded.body",
            (attempt_number(attempt.name), attempt.SerializeToString(), job_id(attempt.name)),
        )
        if not written.rowcount:
            raise Refused(f"there is no job {job_id(attempt.name)!r}", "NOT_FOUND", "name")

    def progress(self, job_id: str, progress: JobProgress) -> None:
        """Keeps how far a job is, without an event and with the same etag: it is not history."""
        self._connection.execute(
            "INSERT INTO progress SELECT number, ? FROM job WHERE id = ? "
            "ON CONFLICT (job) DO UPDATE SET body = excluded.body",
            (progress.SerializeToString(), job_id),
        )

    def delete_job(self, job_id: str, actor: str, request_id: str = "") -> None:
        """Removes a job and its attempts, with an event; its earlier events, request ID and outbox stay."""
        kept, now = self._next(self.record(job_id).job)
        self._connection.execute("DELETE FROM job WHERE id = ?", (job_id,))
        self._event(kept, JobEvent.DELETED, actor, request_id, now)

    def replay(self, request_id: str, owner: str, digest: bytes) -> Job | None:
        """The job of an earlier request of this owner with this ID, as it is now; None when there was none.

        Refused when that one asked for something else (INVALID_ARGUMENT) or its job was deleted (ALREADY_EXISTS).
        """
        row = self._connection.execute(
            "SELECT request.digest, request.job_id, job.body, progress.body FROM request "
            "LEFT JOIN job ON job.number = request.job LEFT JOIN progress ON progress.job = request.job "
            "WHERE request.owner = ? AND request.request_id = ?",
            (owner, request_id),
        ).fetchone()
        if row is None:
            return None
        known, job_id, body, progress = row
        if known != digest:
            raise Refused(
                f"request_id {request_id!r} was used for another request, of job {job_id!r}: take a new one",
                field="request_id",
            )
        if body is None:
            raise Refused(
                f"the job of request {request_id!r}, {job_id!r}, was deleted since", "ALREADY_EXISTS", "request_id"
            )
        return parse_job(body, progress)

    def remember(self, request_id: str, owner: str, digest: bytes, job_id: str) -> None:
        """Lets `replay` find the job of this request; in the same work as its `insert_job`."""
        self._connection.execute(
            "INSERT INTO request SELECT ?, ?, ?, number, id, ? FROM job WHERE id = ?",
            (owner, request_id, digest, self._clock(), job_id),
        )

    def send(self, kind: str, key: str, payload: bytes, due: float) -> None:
        """Puts something into the outbox, in place of what has the same kind and key; `due` in seconds since 1970."""
        self._connection.execute(
            "INSERT OR REPLACE INTO outbox (kind, key, payload, due) VALUES (?, ?, ?, ?)", (kind, key, payload, due)
        )

    def delivered(self, item: OutboxItem) -> None:
        """Takes an item out, unless it was replaced meanwhile: then the new one is still to be sent."""
        self._connection.execute("DELETE FROM outbox WHERE number = ?", (item.number,))

    def postponed(self, item: OutboxItem, due: float, problem: str) -> None:
        """The item could not be sent; it will be tried again at `due`, unless it was replaced meanwhile."""
        self._connection.execute(
            "UPDATE outbox SET due = ?, tries = tries + 1, problem = ? WHERE number = ?", (due, problem, item.number)
        )

    def compact(self, keep_events: int) -> int:
        """Removes old events, but not the newest `keep_events`, and old request IDs; at most COMPACTED of each.

        Gives how many rows were removed; when it is COMPACTED or more, there may be others.
        """
        last = min(self.newest_sequence() - keep_events, self.first_sequence() + COMPACTED - 1)
        removed = self._connection.execute("DELETE FROM event WHERE sequence <= ?", (last,)).rowcount
        removed += self._connection.execute(
            "DELETE FROM request WHERE (owner, request_id) IN "
            "(SELECT owner, request_id FROM request WHERE time < ? ORDER BY time LIMIT ?)",
            (self._clock() - REQUESTS_KEPT, COMPACTED),
        ).rowcount
        return removed

    def _next(self, job: Job) -> tuple[Job, float]:
        """A copy at the next sequence number, and the time of its event in seconds since 1970."""
        kept, now = Job(), self._clock()
        kept.CopyFrom(job)
        kept.sequence = self._newest + 1
        kept.etag = f"{kept.sequence:x}"
        kept.update_time.CopyFrom(stamp(now))
        return kept, now

    def _event(self, job: Job, type: EventType, actor: str, request_id: str, now: float) -> None:
        body = job.SerializeToString()
        self._events.append((job.sequence, now, type, job_id(job.name), job.owner, actor, request_id, body))
        self._newest = job.sequence

    def _label(self, number: int | None, job: Job) -> None:
        if job.labels:
            self._connection.executemany(
                "INSERT INTO label VALUES (?, ?, ?)", [(number, key, value) for key, value in job.labels.items()]
            )


def _columns(job: Job, ledger: Ledger) -> dict[str, object]:
    """A job's row, apart from its number and ID."""
    body = job
    if job.HasField("progress"):
        body = Job()
        body.CopyFrom(job)
        body.ClearField("progress")
    return {
        "owner": job.owner,
        "scene": job.spec.scene,
        "state": job.state,
        "priority": job.priority,
        "created": job.create_time.ToMicroseconds(),
        "ranks": job.spec.ranks or 1,
        "preemptible": job.spec.preemptible,
        "not_before": ledger.not_before,
        # Of a job that waits; the attempt of one that runs is looked at by itself.
        "seconds_left": seconds_left(Record(job, ledger), 0.0),
        "etag": job.etag,
        "ledger": ledger.to_json(),
        "body": body.SerializeToString(),
    }
