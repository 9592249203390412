"""Looks after the attempts that are there: passes stops on to them, keeps what they say, writes how they ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deepgen.v1.job_pb2 import Attempt, Job, JobProgress

from . import faults
from .attempts import RETRIED, attempt_running, end_attempt, stop_attempt
from .causes import Diagnosis, diagnose, run_has_succeeded
from .executor import Executor, Observation, Phase
from .following import Following
from .jobs import Record, job_id, seconds_left
from .launch import RUN, attempt_folder, job_folder
from .store import Store

HANG_TIMEOUT = 1800.0
"""Seconds; the default of RetryPolicy.hang_timeout."""
SECONDS_BETWEEN_PROGRESS = 1.0
_LOG = logging.getLogger(__name__)
Change = Callable[[str, Callable[[Record], Record]], object]
"""Applies a rule to the job of that ID, in one commit."""


@dataclass
class _Watch:
    """What is kept in memory of a live attempt, and found anew after a restart."""

    following: Following
    asked: tuple[object, ...] = ()
    """The stop that was passed on to the executor."""
    written: float = 0.0
    note: str = ""
    pending: JobProgress | None = field(default=None)


class Tending:
    """All live attempts, one after the other; for one thread."""

    def __init__(self, store: Store, executor: Executor, state: Path, grace: float, change: Change) -> None:
        """`state`: the folder of jobs; `grace`: seconds for ranks that are stopped, where a request names none."""
        self._store, self._executor, self._state, self._grace, self._apply = store, executor, state, grace, change
        self._watches: dict[str, _Watch] = {}

    def forget(self, live: set[str]) -> None:
        """What is known of other attempts than these, by uid."""
        for uid in self._watches.keys() - live:
            del self._watches[uid]

    def tend(self, record: Record, now: float) -> bool:
        """Compares a live job with what the executor sees of its attempt; whether that is still to be submitted."""
        attempt = record.attempt
        assert attempt is not None, "a live job has an attempt"
        folder = job_folder(self._state, _id(record.job)) / RUN
        watch = self._watches.setdefault(attempt.uid, _Watch(Following(folder)))
        seen = self._executor.observe(attempt.handle)
        if seen.phase in (Phase.ENDED, Phase.LOST):
            if seen.exit is not None and (seen.exit.done or seen.exit.failed) and not attempt.HasField("start_time"):
                begun = now - seen.exit.seconds  # it ran, though it was over before anybody looked
                self._change(record, lambda known: attempt_running(known, attempt.uid, begun))
            self._look(record, watch, now, last=True)
            self._end(record, seen, now)
            return False
        if seen.phase is Phase.ABSENT and record.job.state == Job.STARTING:
            return True
        if seen.phase is Phase.ABSENT and record.job.state == Job.RUNNING:
            # Its folder is gone, by a power cut or somebody's hand: it is given up, and then it is LOST.
            self._executor.stop(attempt.handle, 0, checkpoint=False)
            return False
        if seen.phase is Phase.RUNNING and not attempt.HasField("start_time"):
            self._change(record, lambda known: attempt_running(known, attempt.uid, now))
        self._look(record, watch, now)
        if seen.note and seen.note != watch.note:
            watch.note = seen.note
            _LOG.warning("%s: %s", attempt.name, seen.note)
        self._stop(record, watch, now)
        return False

    def _stop(self, record: Record, watch: _Watch, now: float) -> None:
        """Passes a stop on to the executor, or decides on one."""
        job, ledger, attempt = record.job, record.ledger, record.attempt
        assert attempt is not None
        if job.state != Job.CANCELLING and seconds_left(record, now) == 0:
            self._change(record, lambda known: stop_attempt(known, attempt.uid, Attempt.DEADLINE, "its time is up"))
        elif job.state in (Job.STARTING, Job.RUNNING) and watch.following.silent_for > _hang_timeout(job):
            silence = f"no progress for {watch.following.silent_for:.0f} s"
            self._change(record, lambda known: stop_attempt(known, attempt.uid, Attempt.HANG, silence))
        elif job.state in (Job.SUSPENDING, Job.CANCELLING):
            checkpoint = job.state == Job.SUSPENDING or ledger.checkpoint_first
            grace = self._grace if ledger.grace is None else ledger.grace
            asked = (ledger.asked, grace, checkpoint)
            if watch.asked != asked:
                faults.point("tending.before_stop")
                # Somebody who gives a grace wants the ranks to be asked.
                self._executor.stop(attempt.handle, grace, checkpoint or bool(ledger.grace))
                watch.asked = asked

    def _look(self, record: Record, watch: _Watch, now: float, last: bool = False) -> None:
        """Keeps what is new in the run folder: progress now and then, the MLflow run as soon as it is known."""
        if watch.following.look():
            watch.pending = watch.following.progress
        mlflow = watch.following.mlflow
        if mlflow.run_id and mlflow != record.job.mlflow:

            def known(record: Record) -> Record:
                changed = record.copy()
                changed.job.mlflow.CopyFrom(mlflow)
                return changed

            self._change(record, known)
        if watch.pending is not None and (last or time.monotonic() - watch.written > SECONDS_BETWEEN_PROGRESS):
            progress, watch.pending = watch.pending, None
            watch.written = time.monotonic()
            self._store.write(lambda transaction: transaction.progress(_id(record.job), progress)).result()

    def _end(self, record: Record, seen: Observation, now: float) -> None:
        """Writes how an attempt ended and what follows; what MLflow is to be told goes into the same commit."""
        attempt, asked = record.attempt, record.ledger.asked
        assert attempt is not None
        folder = self._folder(record)
        found = diagnose(folder, seen.exit, asked or None)
        if found.cause in RETRIED and run_has_succeeded(folder):
            # Its launcher or supervisor was killed when all was written: another attempt would find nothing to do.
            found = Diagnosis(Attempt.COMPLETED, "")
        if found.cause == Attempt.LAUNCH_ERROR and seen.phase is Phase.LOST and attempt.HasField("start_time"):
            found = Diagnosis(Attempt.SUPERVISOR_LOST, "the folder of the attempt was lost")
        ran = seen.exit.seconds if seen.exit is not None else None

        def ended(known: Record) -> Record:
            if known.ledger.asked != asked:
                return known  # a request has come meanwhile: the next turn judges the end by it
            return end_attempt(
                known,
                attempt.uid,
                found.cause,
                found.message,
                now,
                exit_code=(seen.exit.code or 0) if seen.exit is not None else 0,
                evidence=found.evidence,
                ran=ran,
            )

        faults.point("tending.before_end")
        self._change(record, ended)
        faults.point("tending.after_end")

    def _folder(self, record: Record) -> Path:
        return attempt_folder(self._state, _id(record.job), record.job.attempt)

    def _change(self, record: Record, rule: Callable[[Record], Record]) -> None:
        self._apply(_id(record.job), rule)


def _hang_timeout(job: Job) -> float:
    policy = job.spec.retry
    return policy.hang_timeout.ToTimedelta().total_seconds() if policy.HasField("hang_timeout") else HANG_TIMEOUT


def _id(job: Job) -> str:
    return job_id(job.name)
