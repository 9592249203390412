"""The rules of an attempt: how it starts, runs and is stopped, and what follows its end.

Pure functions, as those of jobs.py. An observation names the attempt's uid: that of an earlier attempt is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deepgen.v1.job_pb2 import Attempt, Job

from .jobs import LIVE, Cause, Record, Refused, end, refusal, seconds, seconds_left, stamp, stop

RETRIED: tuple[Cause, ...] = (
    Attempt.LAUNCHER_LOST,
    Attempt.SUPERVISOR_LOST,
    Attempt.RENDEZVOUS,
    Attempt.HANG,
    Attempt.RANK_KILLED,
    Attempt.INTERRUPTED,
)
"""Causes that another attempt may be spared: the default of RetryPolicy.causes."""
MAX_ATTEMPTS = 3
"""The default of RetryPolicy.max_attempts."""
LONGEST_PAUSE = 300.0
"""Seconds; the pauses before a retry are 1, 4, 16 … and at most this."""
_ON_REQUEST = (Attempt.SUSPENDED, Attempt.PREEMPTED, Attempt.CANCELLED)
"""Causes that only a request of the controller's brings about."""


def start_attempt(record: Record, slots: Sequence[int], uid: str, now: float) -> Record:
    """STARTING, with a new attempt on record: its processes are started after this is in the store, never before.

    `from_scratch` of the ledger says whether the run folder is to be emptied first.
    """
    if record.job.state != Job.QUEUED:
        raise refusal(record.job, "be started")
    changed = record.copy()
    job = changed.job
    job.attempt += 1
    job.state, job.state_reason, job.cause = Job.STARTING, "", Attempt.CAUSE_UNSPECIFIED
    attempt = Attempt(
        name=f"{job.name}/attempts/{job.attempt}",
        uid=uid,
        state=Job.STARTING,
        slots=slots,
        resumed_step=0 if record.ledger.from_scratch else job.progress.checkpoint_step,
        create_time=stamp(now),
    )
    ledger = replace(record.ledger, asked=Attempt.CAUSE_UNSPECIFIED, grace=None, checkpoint_first=False, not_before=0.0)
    return Record(job, ledger, attempt)


def attempt_running(record: Record, uid: str, now: float, handle: bytes | None = None) -> Record:
    """Its processes are there: RUNNING, unless it is being stopped already; changes nothing when that is known."""
    attempt = _newest(record, uid)
    if attempt.HasField("start_time") and handle in (None, attempt.handle):
        return record
    changed = record.copy()
    assert changed.attempt is not None
    if handle is not None:
        changed.attempt.handle = handle
    if not attempt.HasField("start_time"):
        changed.attempt.start_time.CopyFrom(stamp(now))
        if not changed.job.HasField("start_time"):
            changed.job.start_time.CopyFrom(stamp(now))
        if changed.job.state == Job.STARTING:
            changed.job.state = changed.attempt.state = Job.RUNNING
    return replace(changed, ledger=replace(record.ledger, from_scratch=False))


def stop_attempt(record: Record, uid: str, cause: Cause, reason: str) -> Record:
    """CANCELLING for the controller's own reasons: DEADLINE (the job fails) or HANG (it may be retried).

    Changes nothing of an attempt that is being stopped; but a time limit also ends a suspension that takes too long.
    """
    if cause not in (Attempt.DEADLINE, Attempt.HANG):
        raise ValueError(f"an attempt is not stopped for {Attempt.Cause.Name(cause)}")
    _newest(record, uid)
    if record.job.state == Job.CANCELLING or (record.job.state == Job.SUSPENDING and cause == Attempt.HANG):
        return record
    return stop(record, Job.CANCELLING, cause, reason, checkpoint_first=cause == Attempt.DEADLINE)


def end_attempt(
    record: Record,
    uid: str,
    cause: Cause,
    message: str,
    now: float,
    *,
    exit_code: int = 0,
    evidence: Sequence[str] = (),
    ran: float | None = None,
) -> Record:
    """The attempt has ended, by `cause`; decides what becomes of the job.

    `ran`: seconds by a clock that does not jump; without it by the attempt's times. A run that has completed has
    succeeded whatever was asked meanwhile. Else a request to cancel goes first, then causes that are not retried, then
    the time limit; a cause that is retried counts against `max_attempts` also while the job is being suspended.
    """
    attempt = _newest(record, uid)
    asked = record.ledger.asked
    if asked in (Attempt.HANG, Attempt.DEADLINE) and cause != Attempt.COMPLETED:
        cause = asked  # however it looked when it was stopped
    elif cause in _ON_REQUEST:
        cause = asked or Attempt.INTERRUPTED  # the wish may have changed on the way
    if ran is None:
        ran = now - seconds(attempt.start_time) if attempt.HasField("start_time") else 0.0
    changed = record.copy()
    ended = changed.attempt
    assert ended is not None
    ended.cause, ended.message, ended.exit_code = cause, message, exit_code
    ended.evidence[:] = evidence
    ended.end_time.CopyFrom(stamp(now))
    if cause == Attempt.COMPLETED:
        ended.state = Job.SUCCEEDED
    else:
        ended.state = Job.CANCELLED if cause in _ON_REQUEST else Job.FAILED
    changed.job.cause = cause
    ledger = replace(record.ledger, seconds_used=record.ledger.seconds_used + max(0.0, ran), not_before=0.0)
    return _follow(replace(changed, ledger=ledger), cause, message, now)


def _follow(changed: Record, cause: Cause, message: str, now: float) -> Record:
    """What becomes of a job, whose state and ledger are still those of the attempt that has ended by `cause`."""
    job, ledger = changed.job, changed.ledger
    asked, name = ledger.asked, Attempt.Cause.Name(cause)
    if cause == Attempt.COMPLETED:
        return end(changed, Job.SUCCEEDED, "", now, 0)
    if asked == Attempt.CANCELLED:
        return end(changed, Job.CANCELLED, job.state_reason, now, 130)
    if asked == Attempt.DEADLINE:
        return end(changed, Job.FAILED, job.state_reason or message, now, 1)
    suspended = cause in (Attempt.SUSPENDED, Attempt.PREEMPTED)
    reason = job.state_reason
    if not suspended:
        policy = job.spec.retry
        if cause not in (policy.causes or RETRIED):
            return end(changed, Job.FAILED, message or name, now, 2 if cause == Attempt.USER_ERROR else 1)
        most = policy.max_attempts or MAX_ATTEMPTS
        ledger = replace(ledger, failed=ledger.failed + 1)
        changed = replace(changed, ledger=ledger)
        if ledger.failed >= most:
            return end(changed, Job.FAILED, f"{message or name} ({ledger.failed} of {most} attempts failed)", now, 1)
        reason = f"retried after {name}, attempt {ledger.failed + 1} of {most}"
    if asked == Attempt.SUSPENDED:
        job.state = Job.SUSPENDED
        return replace(changed, ledger=replace(ledger, asked=Attempt.CAUSE_UNSPECIFIED))
    if seconds_left(replace(changed, attempt=None), now) == 0:
        job.cause = Attempt.DEADLINE
        return end(changed, Job.FAILED, "its time limit is used up", now, 1)
    pause = 0.0 if suspended else min(4.0 ** (ledger.failed - 1), LONGEST_PAUSE)
    job.state, job.state_reason = Job.QUEUED, reason
    return replace(
        changed, ledger=replace(ledger, asked=Attempt.CAUSE_UNSPECIFIED, not_before=now + pause if pause else 0.0)
    )


def _newest(record: Record, uid: str) -> Attempt:
    attempt = record.attempt
    if attempt is None or attempt.uid != uid or record.job.state not in LIVE:
        raise Refused(f"{record.job.name} has no live attempt {uid}", "ABORTED")
    return attempt
