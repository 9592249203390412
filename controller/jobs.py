"""The rules of a job's life: what each request makes of it (attempts.py: what an attempt does).

    QUEUED → STARTING → RUNNING → SUCCEEDED | FAILED          retried: → QUEUED, while the retry policy allows it
    STARTING, RUNNING → SUSPENDING → SUSPENDED → QUEUED       preempted: SUSPENDING → QUEUED
    any that has not ended → (CANCELLING →) CANCELLED         SUCCEEDED, FAILED, CANCELLED → QUEUED by a retry
    STARTING, RUNNING → CANCELLING → FAILED | QUEUED          over its time limit, or hanging

All functions are pure: they take a `Record` and give a changed copy, the very same record when there is nothing to
change, or raise `Refused`. `now` is in seconds since 1970. `Transaction.change` reads, applies and writes in one go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from deepgen.v1.job_pb2 import Attempt, Job

from ..kernel.errors import UserError

State: TypeAlias = "Job.State.ValueType"
Cause: TypeAlias = "Attempt.Cause.ValueType"
Reason = Literal["INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "FAILED_PRECONDITION"]

LIVE = (Job.STARTING, Job.RUNNING, Job.SUSPENDING, Job.CANCELLING)
"""States in which an attempt holds slots."""
ENDED = (Job.SUCCEEDED, Job.FAILED, Job.CANCELLED)


class Refused(UserError):
    """A request that cannot be granted; `reason` is the name of its gRPC status, `field` the path in the request."""

    def __init__(self, message: str, reason: Reason = "INVALID_ARGUMENT", field: str = "") -> None:
        super().__init__(message)
        self.reason, self.field = reason, field


@dataclass(frozen=True)
class Ledger:
    """What the controller notes of a job and no client sees."""

    asked: Cause = Attempt.CAUSE_UNSPECIFIED
    """What the live attempt is being stopped for: CANCELLED, SUSPENDED, PREEMPTED, DEADLINE or HANG; else 0."""
    grace: float | None = None
    """Seconds between the request to stop and the end by force; None: the server's default."""
    checkpoint_first: bool = False
    """A cancelled attempt writes a checkpoint within the grace."""
    from_scratch: bool = False
    """The next attempt starts over; stays until an attempt runs."""
    not_before: float = 0.0
    """A retry is not started earlier, in seconds since 1970."""
    failed: int = 0
    """Attempts that failed by causes that are retried."""
    seconds_used: float = 0.0
    """For which the attempts that have ended ran, against the time limit."""

    def to_json(self) -> str:
        """Only what is not as it begins."""
        return json.dumps({name: value for name, value in vars(self).items() if value != getattr(_EMPTY, name)})

    @staticmethod
    def from_json(text: str) -> Ledger:
        """Keys of another version are passed over."""
        known = {each.name for each in fields(Ledger)}
        return Ledger(**{name: value for name, value in json.loads(text).items() if name in known})


_EMPTY = Ledger()


@dataclass(frozen=True)
class Record:
    """A job with all that is kept of it; its messages are not to be changed in place."""

    job: Job
    ledger: Ledger = field(default_factory=Ledger)
    attempt: Attempt | None = None
    """The newest one; None before the first."""

    def copy(self) -> Record:
        """With messages of its own."""
        job = Job()
        job.CopyFrom(self.job)
        if self.attempt is None:
            return Record(job, self.ledger)
        attempt = Attempt()
        attempt.CopyFrom(self.attempt)
        return Record(job, self.ledger, attempt)


def job_id(name: str) -> str:
    """ID of "jobs/ID" and "jobs/ID/attempts/N"; Refused for any other name."""
    parts = name.split("/")
    if len(parts) in (2, 4) and parts[0] == "jobs" and parts[1] and (len(parts) == 2 or parts[2] == "attempts"):
        return parts[1]
    raise Refused(f"{name!r} is no job; a job's name is jobs/ID", field="name")


def attempt_number(name: str) -> int:
    """N of "jobs/ID/attempts/N"; 0 of "jobs/ID"; Refused for any other name."""
    job_id(name)
    _, _, *rest = name.split("/")
    if not rest:
        return 0
    if not (rest[1].isascii() and rest[1].isdecimal() and 0 < int(rest[1]) < 2**31):
        raise Refused(f"{name!r} is no attempt; an attempt's name is jobs/ID/attempts/1", field="name")
    return int(rest[1])


def check_etag(job: Job, etag: str) -> None:
    """Refused (ABORTED) when the caller has seen another version than this one; an empty etag fits all."""
    if etag and etag != job.etag:
        raise Refused(f"{job.name} has changed since etag {etag!r}: read it again", "ABORTED", "etag")


def stamp(now: float) -> Timestamp:
    """To the microsecond, as the store sorts by."""
    moment = Timestamp()
    moment.FromMicroseconds(round(now * 1e6))
    return moment


def seconds(moment: Timestamp) -> float:
    """Since 1970."""
    return moment.ToMicroseconds() / 1e6


def seconds_left(record: Record, now: float) -> float | None:
    """Of the time limit, also while an attempt runs; never below 0; None without a limit."""
    if not record.job.spec.HasField("time_limit"):
        return None
    used, attempt = record.ledger.seconds_used, record.attempt
    if record.job.state in LIVE and attempt is not None and attempt.HasField("start_time"):
        used += max(0.0, now - seconds(attempt.start_time))
    return max(0.0, record.job.spec.time_limit.ToTimedelta().total_seconds() - used)


# --- requests ---------------------------------------------------------------------------------------------------------


def ask_cancel(
    record: Record,
    now: float,
    grace: float | None = None,
    checkpoint_first: bool = False,
    reason: str = "",
    etag: str = "",
) -> Record:
    """CANCELLED at once where nothing runs, else CANCELLING; again: only a shorter grace changes something."""
    check_etag(record.job, etag)
    state, ledger = record.job.state, record.ledger
    if state == Job.CANCELLED:
        return record
    if state in ENDED:
        raise refusal(record.job, "be cancelled: it has ended")
    reason = reason or "cancelled on request"
    if state not in LIVE:
        changed = end(record.copy(), Job.CANCELLED, reason, now, 130)
        changed.job.cause = Attempt.CANCELLED
        return changed
    if ledger.asked == Attempt.CANCELLED:
        if grace is None or (ledger.grace is not None and grace >= ledger.grace):
            return record
        return replace(record.copy(), ledger=replace(ledger, grace=grace))
    return stop(record, Job.CANCELLING, Attempt.CANCELLED, reason, grace, checkpoint_first)


def ask_suspend(record: Record, now: float, preempt: bool = False, reason: str = "", etag: str = "") -> Record:
    """SUSPENDED at once where nothing runs, else SUSPENDING; changes nothing where it is or will be suspended.

    `preempt` is the scheduler's: only of a live job, which is queued again when it has given its slots back.
    """
    check_etag(record.job, etag)
    state, ledger = record.job.state, record.ledger
    if state in ENDED or state == Job.CANCELLING:
        raise refusal(record.job, "be suspended")
    if preempt:
        if state == Job.SUSPENDING:
            return record
        if state not in LIVE or not record.job.spec.preemptible:
            raise refusal(record.job, "be preempted")
        return stop(record, Job.SUSPENDING, Attempt.PREEMPTED, reason or "preempted")
    reason = reason or "suspended on request"
    if state == Job.SUSPENDED or ledger.asked == Attempt.SUSPENDED:
        return record
    if state == Job.QUEUED:
        changed = record.copy()
        changed.job.state, changed.job.state_reason = Job.SUSPENDED, reason
        return changed
    if state == Job.SUSPENDING:  # it was preempted: it stays away for good
        changed = record.copy()
        changed.job.state_reason = reason
        return replace(changed, ledger=replace(ledger, asked=Attempt.SUSPENDED))
    return stop(record, Job.SUSPENDING, Attempt.SUSPENDED, reason)


def resume(record: Record, now: float, etag: str = "") -> Record:
    """QUEUED, or as soon as it is suspended; changes nothing of a job that waits or runs."""
    check_etag(record.job, etag)
    state = record.job.state
    if state in (Job.QUEUED, Job.STARTING, Job.RUNNING) or record.ledger.asked == Attempt.PREEMPTED:
        return record
    if state in ENDED or state == Job.CANCELLING:
        raise refusal(record.job, "be resumed" + (": retry it" if state in ENDED else ""))
    if seconds_left(record, now) == 0:
        raise refusal(record.job, "be resumed: its time limit is used up")
    changed = record.copy()
    if state == Job.SUSPENDING:
        changed.job.state_reason = "resumed: will be queued again when it is suspended"
        return replace(changed, ledger=replace(record.ledger, asked=Attempt.PREEMPTED))
    changed.job.state, changed.job.state_reason = Job.QUEUED, "resumed"
    return changed


def retry(record: Record, now: float, from_scratch: bool = False, etag: str = "") -> Record:
    """QUEUED again, with all its attempts and all its time; a job that has succeeded only from scratch."""
    check_etag(record.job, etag)
    if record.job.state not in ENDED:
        raise refusal(record.job, "be retried: it has not ended")
    if record.job.state == Job.SUCCEEDED and not from_scratch:
        raise refusal(record.job, "be retried: it has succeeded; from_scratch runs it again")
    changed = record.copy()
    job = changed.job
    job.state, job.state_reason = Job.QUEUED, "retried from scratch" if from_scratch else "retried"
    job.cause, job.exit_code = Attempt.CAUSE_UNSPECIFIED, 0
    job.ClearField("end_time")
    if from_scratch:
        job.ClearField("progress")
    return replace(changed, ledger=Ledger(from_scratch=from_scratch or record.ledger.from_scratch))


def update(record: Record, priority: int | None = None, labels: Mapping[str, str] | None = None) -> Record:
    """Another priority, other labels, as checked by submission.py; None leaves them as they are."""
    changed = record.copy()
    if priority is not None:
        changed.job.priority = priority
    if labels is not None:
        changed.job.labels.clear()
        changed.job.labels.update(labels)
    return record if changed.job == record.job else changed


def check_delete(record: Record, etag: str = "") -> None:
    """Refused of a job that has not ended: it is cancelled first."""
    check_etag(record.job, etag)
    if record.job.state not in ENDED:
        raise refusal(record.job, "be deleted before it has ended: cancel it, or use force")


# --- what requests and attempts share ---------------------------------------------------------------------------------


def stop(
    record: Record,
    state: State,
    asked: Cause,
    reason: str,
    grace: float | None = None,
    checkpoint_first: bool = False,
) -> Record:
    """A live job whose attempt is to be stopped, for `asked`."""
    changed = record.copy()
    changed.job.state, changed.job.state_reason = state, reason
    if changed.attempt is not None:
        changed.attempt.state = state
    ledger = replace(record.ledger, asked=asked, grace=grace, checkpoint_first=checkpoint_first)
    return replace(changed, ledger=ledger)


def end(changed: Record, state: State, reason: str, now: float, exit_code: int) -> Record:
    """Sets a copied record to a final state."""
    job = changed.job
    job.state, job.state_reason, job.exit_code = state, reason, exit_code
    job.end_time.CopyFrom(stamp(now))
    return replace(changed, ledger=replace(changed.ledger, asked=Attempt.CAUSE_UNSPECIFIED, not_before=0.0))


def taken(job_id: str) -> Refused:
    """That the ID of a new job is another's."""
    text = f"there is a job {job_id!r} already: leave the ID out to be given one"
    return Refused(text, "ALREADY_EXISTS", "job_id")


def refusal(job: Job, what: str) -> Refused:
    """That the job's state does not allow it."""
    return Refused(f"{job.name} is {Job.State.Name(job.state)} and cannot {what}", "FAILED_PRECONDITION", "name")
