"""A job against a small reference model: every situation it can come to, and any order of events, by Hypothesis."""

from __future__ import annotations

import contextlib
from copy import copy
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from deepgen.controller import attempts, jobs
from deepgen.controller.jobs import ENDED, LIVE, Record, Refused
from deepgen.v1.job_pb2 import Attempt, Job

WORDS = {
    "cancel": {
        **dict.fromkeys(("QUEUED", "SUSPENDED"), "CANCELLED"),
        **dict.fromkeys(("STARTING", "RUNNING", "SUSPENDING", "CANCELLING"), "CANCELLING"),
        "CANCELLED": "CANCELLED",
    },
    "suspend": {
        "QUEUED": "SUSPENDED",
        "SUSPENDED": "SUSPENDED",
        **dict.fromkeys(("STARTING", "RUNNING", "SUSPENDING"), "SUSPENDING"),
    },
    "preempt": dict.fromkeys(("STARTING", "RUNNING", "SUSPENDING"), "SUSPENDING"),
    "resume": {
        "SUSPENDED": "QUEUED",
        "SUSPENDING": "SUSPENDING",
        **{same: same for same in ("QUEUED", "STARTING", "RUNNING")},
    },
    "retry": dict.fromkeys(("FAILED", "CANCELLED"), "QUEUED"),
    "retry from scratch": dict.fromkeys(("FAILED", "CANCELLED", "SUCCEEDED"), "QUEUED"),
    "start": {"QUEUED": "STARTING"},
    "running": {
        "STARTING": "RUNNING",
        **{same: same for same in ("RUNNING", "SUSPENDING", "CANCELLING")},
    },
    "deadline": dict.fromkeys(("STARTING", "RUNNING", "SUSPENDING", "CANCELLING"), "CANCELLING"),
    "hang": {
        **dict.fromkeys(("STARTING", "RUNNING", "CANCELLING"), "CANCELLING"),
        "SUSPENDING": "SUSPENDING",
    },
}
"""What each word makes of each state; it is refused in the others."""
WISHES = {"cancel": "CANCELLED", "suspend": "SUSPENDED", "resume": "QUEUED", "preempt": "QUEUED"}
CAUSES = [cause for cause in Attempt.Cause.values() if cause not in (0, Attempt.DEADLINE)]
ENDINGS = ("SUCCEEDED", "FAILED", "CANCELLED")
MOST = 3


class Model:
    """What a person expects: a state, what was wished of the live attempt, and how many have failed."""

    def __init__(self) -> None:
        self.state, self.wish, self.failed = "QUEUED", "", 0

    def say(self, word: str) -> bool:
        """False: refused."""
        state = WORDS[word].get(self.state)
        if state is None:
            return False
        if word in ("deadline", "hang"):
            if not (self.state == "CANCELLING" or state == "SUSPENDING"):
                self.wish = word
        elif word == "preempt" and self.state == "SUSPENDING":
            pass  # it leaves already, and stays away if that was the wish
        elif word in WISHES and state.endswith("ING") and state not in ("STARTING", "RUNNING"):
            self.wish = WISHES[word]
        elif word.startswith("retry"):
            self.failed = 0
        self.state = state
        return True

    def end(self, cause: str) -> None:
        """The attempt ends."""
        wish, self.wish = self.wish, ""
        if cause == "COMPLETED":
            self.state = "SUCCEEDED"
        elif wish == "CANCELLED":
            self.state = "CANCELLED"
        elif wish == "deadline":
            self.state = "FAILED"
        else:
            if wish == "hang":
                cause = "HANG"
            elif cause in ("CANCELLED", "SUSPENDED", "PREEMPTED"):
                cause = "SUSPENDED" if wish else "INTERRUPTED"
            retried = cause in ("LAUNCHER_LOST", "SUPERVISOR_LOST", "RENDEZVOUS", "HANG", "RANK_KILLED", "INTERRUPTED")
            self.failed += retried
            if self.failed >= MOST or not (retried or cause == "SUSPENDED"):
                self.state = "FAILED"
            else:
                self.state = wish if wish == "SUSPENDED" else "QUEUED"


class JobStates(RuleBasedStateMachine):
    """The rules on the one side, the model on the other."""

    def __init__(self) -> None:
        super().__init__()
        job = Job(name="jobs/some-job", state=Job.QUEUED, owner="ada", etag="1")
        job.spec.scene, job.spec.preemptible, job.spec.retry.max_attempts = "sentiment", True, MOST
        self.record, self.model, self.now, self.uids = Record(job), Model(), 1000.0, 0

    def apply(self, word: str) -> Record:
        """What the rule of a word makes of the record."""
        uid = self.record.attempt.uid if self.record.attempt else "none"
        record, now = self.record, self.now
        if word in ("deadline", "hang"):
            cause = Attempt.DEADLINE if word == "deadline" else Attempt.HANG
            return attempts.stop_attempt(record, uid, cause, word)
        if word == "start":
            self.uids += 1
            return attempts.start_attempt(record, [0], f"uid{self.uids}", now)
        known: dict[str, Any] = {
            "cancel": lambda: jobs.ask_cancel(record, now),
            "suspend": lambda: jobs.ask_suspend(record, now),
            "preempt": lambda: jobs.ask_suspend(record, now, preempt=True),
            "resume": lambda: jobs.resume(record, now),
            "retry": lambda: jobs.retry(record, now),
            "retry from scratch": lambda: jobs.retry(record, now, from_scratch=True),
            "running": lambda: attempts.attempt_running(record, uid, now),
        }
        changed: Record = known[word]()
        return changed

    @rule(word=st.sampled_from(sorted(WORDS)))
    def say_anything(self, word: str) -> None:
        self.say(word)

    @rule(data=st.data())
    def say_what_is_allowed(self, data: st.DataObject) -> None:
        self.say(data.draw(st.sampled_from(sorted(word for word in WORDS if self.model.state in WORDS[word]))))

    @precondition(lambda self: self.model.state in ("QUEUED", "SUSPENDED", *ENDINGS))
    @rule()
    def goes_on(self) -> None:
        """Most of a job's life is with an attempt: there the rules are many."""
        word = {"QUEUED": "start", "SUSPENDED": "resume"}.get(self.model.state, "retry from scratch")
        self.say(word)

    def say(self, word: str) -> None:
        self.now += 1
        before = self.record.copy()
        changed: Record | None = None
        with contextlib.suppress(Refused):
            changed = self.apply(word)
        assert self.record == before, "a record was changed in place"
        assert self.model.say(word) == (changed is not None), (word, Job.State.Name(before.job.state))
        if changed is not None:
            self.record = changed
            again = self.apply(word) if word not in ("start", "retry", "retry from scratch") else changed
            assert again == changed, f"{word} is not idempotent"

    @precondition(lambda self: self.record.job.state in LIVE)
    @rule(cause=st.sampled_from(CAUSES))
    def end(self, cause: jobs.Cause) -> None:
        self.now += 1
        assert self.record.attempt is not None
        uid = self.record.attempt.uid
        self.record = attempts.end_attempt(self.record, uid, cause, "it ended", self.now)
        self.model.end(Attempt.Cause.Name(cause))

    @invariant()
    def agrees(self) -> None:
        assert Job.State.Name(self.record.job.state) == self.model.state
        assert self.record.ledger.failed == self.model.failed

    @invariant()
    def is_consistent(self) -> None:
        job, attempt, ledger = self.record.job, self.record.attempt, self.record.ledger
        assert (job.state in ENDED) == job.HasField("end_time")
        assert job.attempt == (0 if attempt is None else int(attempt.name.rsplit("/", 1)[1]))
        if job.state in LIVE:
            assert attempt is not None
            assert attempt.state == job.state
        elif attempt is not None:
            assert attempt.state in ENDED
            assert attempt.cause
        assert bool(ledger.asked) == (job.state in (Job.SUSPENDING, Job.CANCELLING))
        assert job.exit_code == {Job.CANCELLED: 130, Job.FAILED: job.exit_code or 9}.get(job.state, 0)
        assert jobs.Ledger.from_json(ledger.to_json()) == ledger
        assert job.state_reason or job.state not in (Job.SUSPENDING, Job.SUSPENDED, Job.CANCELLING, Job.CANCELLED)


def test_every_word_and_every_end_in_every_situation() -> None:
    """Walks over all that can be reached; two records are alike when they differ in times and numbers only."""

    def situation(states: JobStates) -> tuple[object, ...]:
        record, attempt = states.record, states.record.attempt
        began = attempt is not None and attempt.HasField("start_time")
        ledger = record.ledger
        return record.job.state, began, ledger.asked, ledger.failed, ledger.from_scratch, states.model.wish

    waiting, seen, steps = [JobStates()], set[tuple[object, ...]](), 0
    while waiting:
        states = waiting.pop()
        if situation(states) in seen:
            continue
        seen.add(situation(states))
        ends = [partial(JobStates.end, cause=cause) for cause in CAUSES if states.record.job.state in LIVE]
        for step in (*(partial(JobStates.say, word=word) for word in WORDS), *ends):
            after = JobStates()
            after.record, after.model, after.now, after.uids = (
                states.record,
                copy(states.model),
                states.now,
                states.uids,
            )
            step(after)
            after.agrees()
            after.is_consistent()
            waiting.append(after)
            steps += 1
    assert len(seen) > 50, seen
    assert steps > 1000


TestJobStates = JobStates.TestCase
TestJobStates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
