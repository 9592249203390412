"""The conductor on a real store, the executor of this machine and stand-in ranks; its time is ours."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attempts import STAND_IN, until
from conducting import World

from deepgen.controller import conductor, jobs
from deepgen.controller.executor import ExecutorError, Phase, Spec
from deepgen.controller.following import Following
from deepgen.controller.jobs import Record
from deepgen.controller.launch import SCENE, job_folder, write_scene
from deepgen.controller.local import LocalExecutor
from deepgen.controller.processes import members
from deepgen.controller.scheduler import Limits
from deepgen.controller.shim import COOKIE
from deepgen.kernel.events import EventStream
from deepgen.kernel.mlflow_store import STATE
from deepgen.v1.job_pb2 import Attempt, Job


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made.begin()
    finally:
        made.close()


def test_a_job_runs_to_its_success_and_leaves_nothing(world: World) -> None:
    world.submit("one", ranks=2)
    job = world.wait("one", Job.RUNNING)
    assert job.HasField("start_time")
    assert list(world.attempts("one")[0].slots) == [0, 1]
    world.gate("one").touch()
    job = world.wait("one", Job.SUCCEEDED)
    (attempt,) = world.attempts("one")
    assert (job.exit_code, job.cause, job.state_reason) == (0, Attempt.COMPLETED, "")
    assert (attempt.state, attempt.cause) == (Job.SUCCEEDED, Attempt.COMPLETED)
    assert attempt.command[-2] == str(STAND_IN)
    assert members(f"{COOKIE}={attempt.uid}") == []


def test_a_lost_launcher_is_replaced_after_a_pause_until_there_were_enough(world: World) -> None:
    world.submit("one", {"signal": {"0": signal.SIGKILL}})
    world.wait("one", Job.QUEUED, 1)
    assert world.record("one").job.state_reason == "retried after RANK_KILLED, attempt 2 of 3"
    assert world.record("one").ledger.not_before == world.now() + 1
    world.pass_time(1)
    world.wait("one", Job.QUEUED, 2)
    assert world.record("one").ledger.not_before == world.now() + 4
    world.pass_time(4)
    job = world.wait("one", Job.FAILED)
    assert (job.cause, job.exit_code, job.attempt) == (Attempt.RANK_KILLED, 1, 3)
    assert job.state_reason.endswith("(3 of 3 attempts failed)")


def test_a_retry_comes_by_itself_when_its_pause_is_over(world: World) -> None:
    world.flows = True
    world.submit("one", {"signal": {"0": signal.SIGKILL}}, {})
    world.gate("one").touch()
    world.wait("one", Job.SUCCEEDED, 2)
    assert world.causes("one") == ["RANK_KILLED", "COMPLETED"]


def test_a_killed_launcher_and_a_killed_supervisor_are_retried(world: World) -> None:
    world.submit("one")
    for stage in world.running("one").stages():
        stage.signal(signal.SIGKILL)
    world.wait("one", Job.QUEUED, 1)
    seen = world.conductor.outlook("one")
    assert seen.summary.startswith("pauses after a failed attempt: queued again ")
    assert (seen.start, seen.position, seen.slots_wanted) == (world.record("one").ledger.not_before, 0, 1)
    world.pass_time(1)
    world.wait("one", Job.RUNNING, 2)
    world.running("one").shim().signal(signal.SIGKILL)
    world.wait("one", Job.QUEUED, 2)
    world.gate("one").touch()
    world.pass_time(4)
    world.wait("one", Job.SUCCEEDED, 3)
    assert world.causes("one") == ["LAUNCHER_LOST", "SUPERVISOR_LOST", "COMPLETED"]


def test_a_users_mistake_is_not_tried_again(world: World) -> None:
    world.submit("one", {"exit": {"0": 2}, "error": {"0": "no such column: labell"}})
    job = world.wait("one", Job.FAILED)
    assert (job.cause, job.exit_code, job.attempt) == (Attempt.USER_ERROR, 2, 1)
    assert job.state_reason == "no such column: labell"
    assert list(world.attempts("one")[0].evidence) == ["rank_0.error: no such column: labell"]


def test_what_cannot_be_started_fails_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: LocalExecutor, spec: Spec) -> None:
        raise ExecutorError("no launcher here")

    monkeypatch.setattr(LocalExecutor, "submit", refuse)
    world.submit("one")
    job = world.wait("one", Job.FAILED)
    assert (job.cause, job.exit_code, job.state_reason) == (Attempt.LAUNCH_ERROR, 1, "no launcher here")


def test_a_full_disk_puts_a_start_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [True]

    def write(folder: Path, text: str) -> None:
        if full:
            full.pop()
            raise OSError(28, "No space left on device")
        write_scene(folder, text)

    monkeypatch.setattr(conductor, "write_scene", write)
    world.submit("one", scene_text="task: seq2label")
    world.gate("one").touch()
    world.wait("one", Job.SUCCEEDED, 1)
    assert not full
    assert (job_folder(world.state, "one") / SCENE).read_text() == "task: seq2label"


def test_what_is_wrong_with_one_job_leaves_the_others_alone(world: World) -> None:
    world.submit("one")
    (world.told / "one.json").write_text("no JSON")
    world.submit("two")
    world.gate("two").touch()
    world.wait("two", Job.SUCCEEDED)
    assert world.record("one").job.state == Job.QUEUED


def test_a_suspended_job_keeps_away_until_it_is_resumed(world: World) -> None:
    world.submit("one", ranks=2)
    folder = world.running("one").spec.folder
    world.suspend("one")
    job = world.wait("one", Job.SUSPENDED)
    assert job.state_reason == "suspended on request"
    assert (folder / "checkpoint_1").exists()
    world.submit("two", ranks=2)
    world.gate("two").touch()
    world.wait("two", Job.SUCCEEDED)
    world.gate("one").touch()
    world.resume("one")
    world.wait("one", Job.SUCCEEDED, 2)
    assert world.causes("one") == ["SUSPENDED", "COMPLETED"]


def test_a_suspended_job_that_is_resumed_on_the_way_goes_on_by_itself(world: World) -> None:
    world.submit("one", {"stubborn": True}, {})
    shim = world.running("one").shim()
    world.suspend("one")
    world.wait("one", Job.SUSPENDING)
    world.resume("one")
    shim.signal(signal.SIGKILL)
    world.wait("one", Job.RUNNING, 2)
    world.gate("one").touch()
    world.wait("one", Job.SUCCEEDED)
    assert world.causes("one") == ["PREEMPTED", "COMPLETED"]


def test_a_job_of_greater_priority_takes_the_slots_and_gives_them_back(world: World) -> None:
    world.submit("small", ranks=2, preemptible=True)
    world.running("small")
    world.submit("great", ranks=1, priority=5)
    world.wait("great", Job.RUNNING)
    small = world.wait("small", Job.QUEUED)
    assert small.state_reason == "preempted by great"
    assert world.conductor.reason(small)
    assert world.conductor.outlook("small").behind == ("great",)
    world.gate("great").touch()
    world.gate("small").touch()
    world.wait("small", Job.SUCCEEDED, 2)
    assert world.causes("small") == ["PREEMPTED", "COMPLETED"]


def test_a_job_whose_time_is_up_writes_a_checkpoint_and_fails(world: World) -> None:
    job = Job()
    job.spec.time_limit.FromSeconds(3600)
    world.submit("one", time_limit=job.spec.time_limit)
    folder = world.running("one").spec.folder
    world.pass_time(3601)
    ended = world.wait("one", Job.FAILED)
    assert (ended.cause, ended.exit_code, ended.state_reason) == (Attempt.DEADLINE, 1, "its time is up")
    assert (folder / "checkpoint_0").exists()


@pytest.mark.parametrize("told", [{}, {"hold": "/never/there"}])
def test_a_run_that_says_nothing_for_too_long_is_tried_again(world: World, told: dict[str, Any]) -> None:
    job = Job()
    job.spec.retry.hang_timeout.FromMilliseconds(50)
    world.submit("one", told, retry=job.spec.retry)
    world.wait("one", Job.QUEUED, 1)
    assert world.record("one").job.state_reason == "retried after HANG, attempt 2 of 3"
    assert world.causes("one") == ["HANG"]


@pytest.mark.parametrize("options", [{}, {"grace": 0.05}, {"grace": 30.0, "checkpoint_first": True}])
def test_a_running_job_is_cancelled(world: World, options: dict[str, Any]) -> None:
    world.submit("one", {} if options.get("checkpoint_first") else {"stubborn": True}, ranks=2)
    folder = world.running("one").spec.folder
    world.cancel("one", reason="enough", **options)
    job = world.wait("one", Job.CANCELLED)
    assert (job.cause, job.exit_code, job.state_reason) == (Attempt.CANCELLED, 130, "enough")
    assert (folder / "checkpoint_0").exists() == bool(options.get("checkpoint_first"))
    assert members(f"{COOKIE}={world.attempts('one')[0].uid}") == []


def test_a_job_is_cancelled_while_it_waits_starts_is_suspended_or_is_being_suspended(world: World) -> None:
    world.submit("starts", {"hold": "/never/there"}, ranks=2)
    world.wait("starts", Job.STARTING)
    world.submit("waits")
    world.cancel("waits")
    assert world.record("waits").job.state == Job.CANCELLED
    world.cancel("starts")
    world.wait("starts", Job.CANCELLED)
    world.submit("leaves", {"stubborn": True}, ranks=2)
    world.running("leaves")
    world.suspend("leaves")
    world.cancel("leaves")
    world.wait("leaves", Job.CANCELLED)
    world.submit("away")
    world.running("away")
    world.suspend("away")
    world.wait("away", Job.SUSPENDED)
    world.cancel("away")
    assert world.record("away").job.state == Job.CANCELLED


def test_a_job_is_cancelled_before_its_attempt_was_submitted(world: World) -> None:
    """A controller was killed after it had put the attempt on record, and the next one was asked first."""
    world.conductor.close()
    world.submit("one")

    def started(known: Record) -> Record:
        changed = jobs.ask_cancel(world.started(known), world.now())
        assert changed.attempt is not None
        return changed

    world.ask("one", started)
    world.begin()
    world.wait("one", Job.CANCELLED)
    assert not (job_folder(world.state, "one") / "attempts" / "1" / "shim.json").exists()


def test_what_runs_is_found_again_and_its_end_too(world: World) -> None:
    world.submit("one")
    running = world.running("one")
    world.begin()
    assert world.record("one").job.state == Job.RUNNING
    world.conductor.close()
    world.gate("one").touch()
    running.until(Phase.ENDED)
    world.begin()
    assert world.wait("one", Job.SUCCEEDED).attempt == 1


def test_an_attempt_whose_folder_is_gone_is_given_up_and_followed_by_another(world: World) -> None:
    world.submit("one")
    running = world.running("one")
    world.conductor.close()
    for process in (running.shim(), *running.processes()):
        process.signal(signal.SIGKILL)
    until(lambda: not running.processes())
    running.spec.folder.rename(world.told / "aside")
    world.begin()
    world.wait("one", Job.QUEUED)
    world.gate("one").touch()
    world.pass_time(1)
    world.wait("one", Job.SUCCEEDED, 2)
    assert world.causes("one") == ["SUPERVISOR_LOST", "COMPLETED"]


def test_a_run_that_had_finished_when_its_supervisor_was_killed_has_succeeded(world: World) -> None:
    world.submit("one")
    running = world.running("one")
    events = EventStream(world.run("one"))
    events.finished("succeeded")
    events.close()
    running.shim().signal(signal.SIGKILL)
    job = world.wait("one", Job.SUCCEEDED)
    assert (job.attempt, job.cause) == (1, Attempt.COMPLETED)


def test_progress_and_the_mlflow_run_are_taken_from_the_run_folder(world: World) -> None:
    world.submit("one")
    world.running("one")
    events = EventStream(world.run("one"))
    events.stage("train", total=100)
    events.progress("train", 40, 100, step=4, epoch=0.5, seconds_left=60, values={"loss": 0.25})
    events.saved("checkpoint", "checkpoint-3", step=3)
    until(lambda: world.record("one").job.progress.checkpoint_step == 3)
    progress = world.record("one").job.progress
    assert (progress.stage, progress.done, progress.total, progress.step) == ("train", 40, 100, 4)
    assert dict(progress.values) == {"loss": 0.25}
    state = {"run_id": "r1", "experiment_id": "7", "address": "http://mlflow:5000/"}
    (world.run("one") / STATE).parent.mkdir(exist_ok=True)
    (world.run("one") / STATE).write_text(json.dumps(state))
    until(lambda: world.record("one").job.mlflow.run_id)
    assert world.record("one").job.mlflow.link == "http://mlflow:5000/#/experiments/7/runs/r1"
    events.close()


def test_a_run_that_starts_over_is_followed_from_its_beginning(tmp_path: Path) -> None:
    moments = iter(range(100))
    following = Following(tmp_path, lambda: float(next(moments)))
    for stage in ("train", "eval"):
        events = EventStream(tmp_path)
        events.stage(stage, total=3)
        if stage == "train":
            events.progress("train", 1, 3, step=7, values={"loss": 1})
        events.close()
        assert following.look()
        assert following.progress.stage == stage
        (tmp_path / "events.jsonl").rename(tmp_path / f"{stage}.jsonl")
    assert following.progress.step == 0
    assert not following.look()


def test_each_user_has_so_many_slots(world: World) -> None:
    world.begin(limits=Limits(slots_per_user=1))
    for id, owner in (("ada-1", "ada"), ("ada-2", "ada"), ("bob-1", "bob"), ("bob-2", "bob")):
        world.submit(id, owner=owner)
    world.wait("ada-1", Job.RUNNING)
    world.wait("bob-1", Job.RUNNING)
    assert world.record("ada-2").job.state == world.record("bob-2").job.state == Job.QUEUED
    assert "ada" in world.conductor.reason(world.record("ada-2").job)
    world.gate("ada-1").touch()
    world.wait("ada-2", Job.RUNNING)
    assert world.record("bob-2").job.state == Job.QUEUED


def test_a_job_that_waits_says_why(world: World) -> None:
    world.submit("one", ranks=2)
    world.running("one")
    world.submit("two", ranks=2)
    world.submit("large", ranks=3)
    assert "wants 3 slots, and there are 2 in all" in world.conductor.outlook("large").summary
    assert "wants 3 slots, and there are 2 in all" in world.conductor.reason(world.record("large").job)
    seen = world.conductor.outlook("two")
    assert (seen.position, seen.slots_wanted, seen.slots_free, seen.slots_total) == (1, 2, 0, 2)
