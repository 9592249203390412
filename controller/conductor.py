"""The loop that makes what the store says come true: it starts, watches and stops attempts, and writes what it sees.

Each turn compares the record with what the executor sees, so it does not matter at which line an earlier controller was
killed. What will be done is committed before it is done; everything that is done may be done twice.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from deepgen.v1.job_pb2 import Attempt, Job

from . import faults
from .attempts import end_attempt, start_attempt
from .delivery import MLFLOW, Delivery
from .executor import Executor, ExecutorError, Spec
from .explain import Outlook, explain, pausing
from .jobs import ENDED, LIVE, Record, Refused, ask_suspend, job_id, seconds, seconds_left
from .launch import RUN, Machine, attempt_folder, command, job_folder, write_scene
from .scheduler import Holding, Limits, Plan, never, plan
from .store import Store, StoreUnavailable, Transaction
from .tending import Tending

ACTOR = "controller"
SECONDS_BETWEEN_TURNS = 0.1
"""While something runs; otherwise a turn waits for `wake`."""
SECONDS_TO_GATHER = 0.05
"""Between two turns, whatever has happened."""
EVENTS_KEPT = 1_000_000
SECONDS_BETWEEN_COMPACTIONS = 60.0
_MLFLOW = {Job.SUCCEEDED: "FINISHED", Job.FAILED: "FAILED", Job.CANCELLED: "KILLED"}
_LOG = logging.getLogger(__name__)

Command = Callable[..., Spec]


@dataclass(frozen=True)
class Conduct:
    """How the conductor goes about it."""

    state: Path
    """The folder of jobs and their attempts."""
    machine: Machine
    limits: Limits = field(default_factory=Limits)
    grace: float = 60.0
    """Seconds in which the ranks of a job that is stopped may write their checkpoint."""
    mlflow_uri: str = ""
    """Where runs are recorded; empty: in mlflow.db of `state`."""
    command: Command = command
    """What makes an attempt of a job; tests start lighter ranks."""


class Conductor:
    """One thread; `wake` tells it that a job was submitted or changed."""

    def __init__(
        self, store: Store, executor: Executor, conduct: Conduct, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._executor, self._conduct, self._clock = store, executor, conduct, clock
        self._delivery = Delivery(store, conduct.state, conduct.mlflow_uri, clock)
        self._tending = Tending(store, executor, conduct.state, conduct.grace, self._apply)
        self._plan = Plan()
        self._replan = True
        self._retry: float | None = None
        """When the next retry is due that the last plan could not start yet."""
        self._problems: dict[str, str] = {}
        """What went wrong last with a job, so that it is said once."""
        self._compacted = time.monotonic()
        self._wake, self._ready, self._closing = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="conductor", daemon=True)

    def start(self) -> None:
        """Begins; `ready` is set when all that an earlier controller left has been looked at."""
        self._thread.start()

    @property
    def ready(self) -> threading.Event:
        """Set after the first turn."""
        return self._ready

    def wake(self) -> None:
        """There is something new in the store. Any thread."""
        self._replan = True
        self._wake.set()

    def close(self) -> None:
        """Ends the loop. What runs goes on running, and is found again by the next conductor."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._delivery.close()

    def reason(self, job: Job) -> str:
        """Why a job waits, in a line, by the last plan."""
        machine, limits = self._conduct.machine, self._conduct.limits
        return never(job.spec.ranks or 1, machine.slots, limits) or self._plan.reason(_id(job))

    def outlook(self, job_id: str) -> Outlook:
        """Why a job waits, behind which, and when it is expected to start."""
        now = self._clock()
        with self._store.reader() as reader:
            asked = reader.record(job_id)
            records = [reader.record(_id(job)) for job in reader.live()]
            holding = [_holding(record, now) for record in records]
            if asked.job.state == Job.QUEUED and asked.ledger.not_before > now:
                return pausing(asked.job.spec.ranks or 1, holding, self._slots, asked.ledger.not_before, now)
            waiting = list(reader.queued(now=now))
        expected = {
            _id(record.job): record.job.progress.seconds_left
            for record in records
            if record.job.progress.stage == "train" and record.job.progress.seconds_left > 0
        }
        return explain(job_id, waiting, holding, self._slots, self._conduct.limits, now, expected)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            pause: float | None = SECONDS_BETWEEN_TURNS
            try:
                pause = self._turn()
                self._ready.set()
            except (OSError, StoreUnavailable) as error:  # a full disk, a busy file: all is tried again
                _LOG.warning("the next turn tries again: %s", error)
                self._replan, pause = True, 1.0
            except Exception:  # the loop must not end while the controller answers
                _LOG.exception("a turn failed")
                self._replan, pause = True, 1.0
            # Many submits in a row wake it once: planning for each would leave the submits little of the interpreter.
            self._closing.wait(SECONDS_TO_GATHER)
            self._wake.wait(pause)
            self._wake.clear()

    def _turn(self) -> float | None:
        """One look at everything; gives the seconds until the next one, None for when it is woken."""
        now = self._clock()
        with self._store.reader() as reader:
            records = [reader.record(_id(job)) for job in reader.live()]
        for record in records:
            self._guarded(record.job.name, partial(self._tend, record, now))
        self._tending.forget({record.attempt.uid for record in records if record.attempt is not None})
        if self._retry is not None and self._retry <= now:
            self._replan = True
        if self._replan:
            self._replan = False
            started = self._schedule(now)
        else:
            started = False
        waits = [pause for pause in (self._delivery.turn(now), self._retry and self._retry - now) if pause is not None]
        if records or started:
            waits.append(SECONDS_BETWEEN_TURNS)
        if time.monotonic() - self._compacted > SECONDS_BETWEEN_COMPACTIONS:
            self._compacted = time.monotonic()
            self._store.write(lambda transaction: transaction.compact(EVENTS_KEPT)).result()
        return max(0.01, min(waits)) if waits else SECONDS_BETWEEN_COMPACTIONS

    def _tend(self, record: Record, now: float) -> None:
        if self._tending.tend(record, now):
            self._submit(record, now)

    def _guarded(self, name: str, work: Callable[[], object]) -> None:
        """Does something for one job: what is wrong with it is no reason to leave the others alone."""
        try:
            work()
        except StoreUnavailable:
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if self._problems.get(name) != text:
                self._problems[name] = text
                _LOG.warning("%s: %s; tried again", name, text, exc_info=not isinstance(error, OSError))
        else:
            self._problems.pop(name, None)

    @property
    def _slots(self) -> range:
        return range(self._conduct.machine.slots)

    # --- attempts that are to be --------------------------------------------------------------------------------------

    def _schedule(self, now: float) -> bool:
        """Plans, starts and preempts; whether anything was started."""
        with self._store.reader() as reader:
            self._retry = reader.next_retry(now)  # of the same moment: what is not among those that wait, is here
            holding = [_holding(reader.record(_id(job)), now) for job in reader.live()]
            self._plan = plan(reader.queued(now=now), holding, self._slots, self._conduct.limits, now)
        for identity, slots in self._plan.starts:
            self._guarded(f"jobs/{identity}", partial(self._start, identity, slots, now))
        for identity in self._plan.preempts:
            head = self._plan.head.job_id if self._plan.head is not None else "a job of greater priority"
            rule = partial(ask_suspend, now=now, preempt=True, reason=f"preempted by {head}")
            self._apply(identity, rule)
        return bool(self._plan.starts)

    def _start(self, job_id: str, slots: tuple[int, ...], now: float) -> None:
        """Commits a new attempt, then submits it."""
        uid = str(uuid.uuid4())

        def started(known: Record) -> Record:
            changed = start_attempt(known, slots, uid, now)
            assert changed.attempt is not None
            changed.attempt.handle = self._executor.handle(self._spec(changed))
            changed.attempt.command[:] = self._spec(changed).command
            return changed

        if self._apply(job_id, started) is None:
            return  # it was cancelled meanwhile
        faults.point("conductor.after_start")
        with self._store.reader() as reader:
            record = reader.record(job_id)
        if record.attempt is not None and record.attempt.uid == uid:
            self._submit(record, now)

    def _submit(self, record: Record, now: float) -> None:
        """Hands the attempt to the executor; again after a restart, which changes nothing if it has it."""
        attempt = record.attempt
        assert attempt is not None
        with self._store.reader() as reader:
            scene = reader.scene(_id(record.job))
        if scene is not None:
            write_scene(job_folder(self._conduct.state, _id(record.job)), scene)
        try:
            self._executor.submit(self._spec(record))
        except ExecutorError as error:
            cause, message = Attempt.LAUNCH_ERROR, str(error)
            self._apply(_id(record.job), lambda known: end_attempt(known, attempt.uid, cause, message, now))

    def _spec(self, record: Record) -> Spec:
        attempt, conduct = record.attempt, self._conduct
        assert attempt is not None
        made = conduct.command(
            record.job,
            attempt,
            self._folder(record),
            list(attempt.slots),
            conduct.machine,
            from_scratch=record.ledger.from_scratch,
        )
        record_at = {"MLFLOW_TRACKING_URI": self._delivery.address, "MLFLOW_RUN_NAME": _id(record.job)}
        return replace(made, environment={**made.environment, **record_at})

    def _folder(self, record: Record) -> Path:
        return attempt_folder(self._conduct.state, _id(record.job), record.job.attempt)

    # --- the store ----------------------------------------------------------------------------------------------------

    def _apply(self, job_id: str, rule: Callable[[Record], Record]) -> Job | None:
        """Applies a rule in one commit, with what MLflow is to be told; None where the job does not allow it."""

        def work(transaction: Transaction) -> Job:
            before = transaction.record(job_id).job.state
            job = transaction.change(job_id, rule, ACTOR)
            if job.state in ENDED and before in LIVE:
                folder = job_folder(self._conduct.state, job_id) / RUN
                told = {"folder": str(folder), "status": _MLFLOW[job.state], "reason": job.state_reason}
                transaction.send(MLFLOW, job_id, json.dumps(told).encode(), self._clock())
            return job

        try:
            job = self._store.write(work).result()
        except Refused as refused:
            _LOG.info("%s", refused)
            return None
        self.wake()
        return job


def _holding(record: Record, now: float) -> Holding:
    job, attempt = record.job, record.attempt
    assert attempt is not None
    return Holding(
        job_id=_id(job),
        priority=job.priority,
        order=int(seconds(job.create_time) * 1e6),
        owner=job.owner,
        slots=tuple(attempt.slots),
        preemptible=job.spec.preemptible,
        seconds_left=seconds_left(record, now),
        leaving=job.state in (Job.SUSPENDING, Job.CANCELLING),
        started=seconds(attempt.create_time),
    )


def _id(job: Job) -> str:
    return job_id(job.name)
