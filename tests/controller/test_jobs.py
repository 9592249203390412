"""The rules of a job's life, one by one; their interplay is in test_job_states.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from deepgen.controller import attempts, jobs, submission
from deepgen.controller.jobs import Ledger, Record, Refused
from deepgen.controller.store import Store
from deepgen.v1.controller_pb2 import CreateJobRequest
from deepgen.v1.job_pb2 import Attempt, Job, JobProgress

NOW = 1_700_000_000.0


def request(job_id: str = "") -> CreateJobRequest:
    asked = CreateJobRequest(job_id=job_id)
    asked.job.spec.scene = "scenes/Sentiment v2.yaml"
    return asked


def queued(**spec: object) -> Record:
    asked = request("some-job")
    for name, value in spec.items():
        if isinstance(value, Duration):
            getattr(asked.job.spec, name).CopyFrom(value)
        else:
            setattr(asked.job.spec, name, value)
    return Record(submission.new_job(asked, "ada", NOW))


def started(record: Record, uid: str = "u1") -> Record:
    return attempts.start_attempt(record, [2, 3], uid, NOW)


def running(record: Record, uid: str = "u1", now: float = NOW) -> Record:
    return attempts.attempt_running(started(record, uid), uid, now)


def ended(record: Record, cause: jobs.Cause, now: float = NOW, **more: object) -> Record:
    assert record.attempt is not None
    return attempts.end_attempt(record, record.attempt.uid, cause, "it ended", now, **more)  # type: ignore[arg-type]


def state(record: Record) -> str:
    return Job.State.Name(record.job.state)


@contextlib.contextmanager
def refused(reason: str = "INVALID_ARGUMENT", field: str | None = None) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.reason == reason
    assert field in (None, caught.value.field)


def test_a_new_job() -> None:
    asked = request()
    asked.job.state, asked.job.owner, asked.job.labels["team"] = Job.SUCCEEDED, "eve", "nlp"
    job = submission.new_job(asked, "ada", NOW)
    assert job.name.startswith("jobs/sentiment-v2-")
    assert (job.state, job.owner, dict(job.labels), job.spec.ranks) == (Job.QUEUED, "ada", {"team": "nlp"}, 1)
    assert jobs.seconds(job.create_time) == NOW


def test_an_id_that_is_taken_is_refused_or_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "controller.db")
    draws = iter([1, 1, 2])
    monkeypatch.setattr(submission.secrets, "randbelow", lambda below: next(draws))  # type: ignore[attr-defined]

    def create(asked: CreateJobRequest) -> Job:
        made = submission.new_job(asked, "ada", NOW)
        return store.write(lambda transaction: submission.insert(transaction, made, asked)).result()

    try:
        assert create(request("some-job")).name == "jobs/some-job"
        with refused("ALREADY_EXISTS", "job_id"):
            create(request("some-job"))
        first, second = create(request()), create(request())
        assert first.name.startswith("jobs/sentiment-v2-")
        assert first.name != second.name
    finally:
        store.close()


@pytest.mark.parametrize("job_id", ["ab", "a" * 64, "Upper", "-begins", "ends-", "a_b", "a/b", "größe", "abc\n"])
def test_ids_that_are_refused(job_id: str) -> None:
    with refused(field="job_id"):
        submission.check_request(request(job_id))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("job.spec.scene", lambda job: job.spec.ClearField("scene")),
        ("job.spec.ranks", lambda job: setattr(job.spec, "ranks", -1)),
        ("job.spec.time_limit", lambda job: setattr(job.spec.time_limit, "seconds", 0)),
        ("job.spec.retry.max_attempts", lambda job: setattr(job.spec.retry, "max_attempts", -1)),
        ("job.spec.retry.hang_timeout", lambda job: setattr(job.spec.retry.hang_timeout, "seconds", -1)),
        ("job.priority", lambda job: setattr(job, "priority", 1001)),
        ("job.labels", lambda job: job.labels.update({f"k{number}": "" for number in range(33)})),
        ("job.labels[ä]", lambda job: job.labels.update({"ä": "x"})),
        ("job.labels[]", lambda job: job.labels.update({"": "x"})),
        ("job.labels[team]", lambda job: job.labels.update(team="x" * 64)),
        ("job.labels[team]", lambda job: job.labels.update(team="a\nb")),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_path(field: str, change: object) -> None:
    asked = request()
    change(asked.job)  # type: ignore[operator]
    with refused(field=field):
        submission.check_request(asked)


def test_the_digest_is_of_all_but_the_request_id() -> None:
    one, other = request(), request()
    one.request_id, other.request_id = "1", "2"
    assert submission.digest(one) == submission.digest(other)
    other.validate_only = True
    assert submission.digest(one) != submission.digest(other)


def test_names() -> None:
    assert jobs.job_id("jobs/some-job") == jobs.job_id("jobs/some-job/attempts/3") == "some-job"
    assert (jobs.attempt_number("jobs/x"), jobs.attempt_number("jobs/x/attempts/12")) == (0, 12)
    for name in ("", "jobs", "jobs/", "job/x", "jobs/x/attempts", "jobs/x/logs/1"):
        with refused(field="name"):
            jobs.job_id(name)
    for number in ("0", "-1", "x", "²", str(2**31)):
        with refused(field="name"):
            jobs.attempt_number(f"jobs/x/attempts/{number}")


def test_a_run_that_completes() -> None:
    record = running(queued(), now=NOW + 1)
    assert state(record) == "RUNNING"
    assert record.attempt is not None
    assert (record.attempt.name, list(record.attempt.slots)) == ("jobs/some-job/attempts/1", [2, 3])
    done = ended(record, Attempt.COMPLETED, NOW + 11)
    assert (state(done), done.job.exit_code, done.job.cause) == ("SUCCEEDED", 0, Attempt.COMPLETED)
    assert done.ledger.seconds_used == 10
    assert (jobs.seconds(done.job.start_time), jobs.seconds(done.job.end_time)) == (NOW + 1, NOW + 11)


def test_a_cause_that_is_retried_pauses_longer_each_time_and_then_fails() -> None:
    record = queued()
    for failed, pause in ((1, 1), (2, 4)):
        record = ended(running(record, f"u{failed}"), Attempt.LAUNCHER_LOST)
        assert (state(record), record.ledger.not_before - NOW) == ("QUEUED", pause)
        assert record.job.state_reason == f"retried after LAUNCHER_LOST, attempt {failed + 1} of 3"
    record = ended(running(record, "u3"), Attempt.RANK_KILLED)
    assert (state(record), record.job.exit_code) == ("FAILED", 1)
    assert record.job.state_reason == "it ended (3 of 3 attempts failed)"
    again = jobs.retry(record, NOW)
    assert (state(again), again.ledger, again.job.exit_code, again.job.attempt) == ("QUEUED", Ledger(), 0, 3)


def test_a_users_mistake_is_not_retried() -> None:
    record = ended(running(queued()), Attempt.USER_ERROR)
    assert (state(record), record.job.exit_code, record.job.state_reason) == ("FAILED", 2, "it ended")


def test_the_causes_that_are_retried_can_be_chosen() -> None:
    record = queued()
    record.job.spec.retry.causes.append(Attempt.RUN_ERROR)
    assert state(ended(running(record), Attempt.RUN_ERROR)) == "QUEUED"
    assert state(ended(running(record), Attempt.LAUNCHER_LOST)) == "FAILED"


def test_a_cancel_says_how_and_can_only_be_hastened() -> None:
    record = jobs.ask_cancel(running(queued()), NOW, grace=30, checkpoint_first=True, reason="no longer needed")
    assert (state(record), record.ledger.grace, record.ledger.checkpoint_first) == ("CANCELLING", 30, True)
    assert jobs.ask_cancel(record, NOW) is record
    assert jobs.ask_cancel(record, NOW, grace=60) is record
    hastened = jobs.ask_cancel(record, NOW, grace=5)
    assert (hastened.ledger.grace, hastened.ledger.checkpoint_first) == (5, True)
    done = ended(hastened, Attempt.CANCELLED)
    assert (state(done), done.job.exit_code, done.job.state_reason) == ("CANCELLED", 130, "no longer needed")
    with refused("FAILED_PRECONDITION"):
        jobs.ask_cancel(ended(running(queued()), Attempt.COMPLETED), NOW)


def test_a_preempted_job_waits_again_without_a_pause_and_goes_on_from_its_checkpoint() -> None:
    record = jobs.ask_suspend(running(queued(preemptible=True)), NOW, preempt=True, reason="for jobs/big")
    assert (state(record), record.ledger.asked) == ("SUSPENDING", Attempt.PREEMPTED)
    record = ended(record, Attempt.PREEMPTED)
    assert (state(record), record.job.state_reason, record.ledger.not_before) == ("QUEUED", "for jobs/big", 0)
    record.job.progress.CopyFrom(JobProgress(checkpoint_step=120))
    record = started(record, "u2")
    assert record.attempt is not None
    assert (record.attempt.resumed_step, record.job.attempt) == (120, 2)
    with refused("FAILED_PRECONDITION"):
        jobs.ask_suspend(running(queued()), NOW, preempt=True)


def test_a_preempted_job_that_its_user_suspends_stays_away() -> None:
    record = jobs.ask_suspend(running(queued(preemptible=True)), NOW, preempt=True)
    record = ended(jobs.ask_suspend(record, NOW), Attempt.PREEMPTED)
    assert (state(record), record.job.cause) == ("SUSPENDED", Attempt.SUSPENDED)
    record = jobs.ask_suspend(running(queued()), NOW)
    assert state(ended(jobs.resume(record, NOW), Attempt.SUSPENDED)) == "QUEUED"


def test_the_time_limit_is_of_all_attempts_together() -> None:
    limit = Duration(seconds=100)
    record = ended(running(queued(time_limit=limit)), Attempt.INTERRUPTED, NOW + 60)
    assert jobs.seconds_left(record, NOW + 500) == 40
    record = attempts.attempt_running(started(record, "u2"), "u2", NOW + 1000)
    assert jobs.seconds_left(record, NOW + 1030) == 10
    stopped = attempts.stop_attempt(record, "u2", Attempt.DEADLINE, "its time limit of 100 s is over")
    assert state(stopped) == "CANCELLING"
    done = ended(stopped, Attempt.CANCELLED, NOW + 1042)
    assert (state(done), done.job.cause, done.job.exit_code) == ("FAILED", Attempt.DEADLINE, 1)
    assert done.job.state_reason == "its time limit of 100 s is over"
    assert jobs.seconds_left(jobs.retry(done, NOW), NOW) == 100
    spent = ended(record, Attempt.INTERRUPTED, NOW + 2000)
    assert (state(spent), spent.job.cause) == ("FAILED", Attempt.DEADLINE)


def test_a_clock_that_jumps_back_gives_no_time_and_takes_none() -> None:
    record = running(queued(time_limit=Duration(seconds=100)))
    assert jobs.seconds_left(record, NOW - 5000) == 100
    assert ended(record, Attempt.INTERRUPTED, NOW - 5000).ledger.seconds_used == 0
    assert ended(record, Attempt.INTERRUPTED, NOW + 86_400, ran=7.5).ledger.seconds_used == 7.5


def test_a_hang_is_stopped_and_retried_whatever_the_end_looks_like() -> None:
    record = attempts.stop_attempt(running(queued()), "u1", Attempt.HANG, "no progress for 30 min")
    record = ended(record, Attempt.RANK_KILLED)
    assert (state(record), record.job.cause, record.ledger.failed) == ("QUEUED", Attempt.HANG, 1)


def test_from_scratch_holds_until_an_attempt_runs() -> None:
    record = ended(running(queued()), Attempt.COMPLETED)
    with refused("FAILED_PRECONDITION"):
        jobs.retry(record, NOW)
    record.job.progress.CopyFrom(JobProgress(checkpoint_step=120))
    record = jobs.retry(record, NOW, from_scratch=True)
    assert not record.job.HasField("progress")
    record = ended(started(record, "u2"), Attempt.LAUNCHER_LOST)
    assert record.ledger.from_scratch
    record = jobs.retry(jobs.ask_cancel(record, NOW), NOW)
    assert record.ledger.from_scratch
    assert not running(record, "u3").ledger.from_scratch


def test_an_observation_of_an_earlier_attempt_is_refused() -> None:
    record = started(ended(running(queued()), Attempt.INTERRUPTED), "u2")
    with refused("ABORTED"):
        attempts.attempt_running(record, "u1", NOW)
    with refused("ABORTED"):
        attempts.end_attempt(record, "u1", Attempt.COMPLETED, "", NOW)
    with refused("ABORTED"):
        attempts.end_attempt(ended(record, Attempt.COMPLETED), "u2", Attempt.COMPLETED, "", NOW)


def test_another_etag_is_refused() -> None:
    record = queued()
    record.job.etag = "7"
    assert state(jobs.ask_cancel(record, NOW, etag="7")) == "CANCELLED"
    for rule in (jobs.ask_cancel, jobs.ask_suspend, jobs.resume, jobs.retry):
        with refused("ABORTED", "etag"):
            rule(record, NOW, etag="6")
    with refused("ABORTED", "etag"):
        jobs.check_delete(record, "6")
    with refused("FAILED_PRECONDITION"):
        jobs.check_delete(record, "7")


def test_an_update_that_changes_nothing_is_none() -> None:
    record = queued()
    assert jobs.update(record, priority=0, labels={}) is record
    changed = jobs.update(record, 7, {"team": "nlp"})
    assert (changed.job.priority, dict(changed.job.labels)) == (7, {"team": "nlp"})


def test_notes_of_another_version_are_passed_over() -> None:
    assert Ledger.from_json('{"failed": 2, "of_tomorrow": 1}') == Ledger(failed=2)
    assert Ledger().to_json() == "{}"
