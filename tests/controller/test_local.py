"""The executor of this machine: it may be killed anywhere and made anew, and no attempt runs twice or is forgotten."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attempts import KILLED, Running, stand_in, submit_in_another_process, until

from deepgen.controller import records
from deepgen.controller.executor import ExecutorError, Phase
from deepgen.controller.local import STARTS, LocalExecutor
from deepgen.controller.processes import Process

Make = Callable[..., Running]


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Make]:
    """Makes attempts of stand-in ranks; what is left of them is ended, and must end."""
    made: list[Running] = []

    def make(uid: str = "", **behaviour: Any) -> Running:
        behaviour.setdefault("gate", str(tmp_path / f"gate-{len(made)}"))
        made.append(Running(stand_in(tmp_path / "jobs" / f"{len(made)}", uid, **behaviour)))
        return made[-1]

    yield make
    for running in made:
        running.clean()


def launches(running: Running) -> int:
    """How often the ranks were started: each start leaves a line."""
    logs = (running.spec.folder / "ranks").glob("*_rank0.log")
    return sum(log.read_text(encoding="utf-8").count("rank 0 step 0\n") for log in logs)


def test_from_submit_to_the_end(attempt: Make) -> None:
    running = attempt(ranks=2)
    assert running.see().phase == Phase.ABSENT
    running.start()
    assert running.see().ranks == 2
    assert running.spec.folder.stat().st_mode & 0o777 == 0o700
    assert (running.spec.folder / records.ATTEMPT).stat().st_mode & 0o777 == 0o600
    running.gate.touch()
    assert running.until(Phase.ENDED) == running.see()


def test_submitted_again_it_runs_once(attempt: Make) -> None:
    running = attempt(ranks=1)
    for _ in range(3):
        running.executor.submit(running.spec)
    running.until(Phase.RUNNING)
    LocalExecutor().submit(running.spec)
    assert len(running.processes()) == 3
    running.gate.touch()
    running.until(Phase.ENDED)
    LocalExecutor().submit(running.spec)
    assert running.see().phase == Phase.ENDED
    assert launches(running) == 1


def test_a_folder_is_of_one_attempt(attempt: Make, tmp_path: Path) -> None:
    running = attempt(ranks=1).start()
    other = stand_in(running.spec.folder, "another", ranks=1, gate=str(tmp_path / "gate"))
    with pytest.raises(ExecutorError, match="of another attempt"):
        running.executor.submit(other)


def test_the_supervisor_is_killed(attempt: Make) -> None:
    running = attempt(ranks=4, stubborn=True, children=1).start()
    supervisor = running.shim()
    assert len(running.processes()) == 2 + 4 * 2
    supervisor.signal(signal.SIGKILL)
    until(lambda: not supervisor.alive())
    assert running.see().phase == Phase.LOST
    assert running.processes() == []
    assert (running.spec.folder / records.FENCE).exists()
    assert running.see().phase == Phase.LOST


def test_the_supervisor_is_killed_and_the_tracker_lives(attempt: Make) -> None:
    running = attempt(ranks=1, tracker=True).start()
    supervisor = running.shim()
    supervisor.signal(signal.SIGKILL)
    until(lambda: not supervisor.alive())
    assert running.see().phase == Phase.LOST
    Path(f"{running.gate}.tracker").touch()


def test_another_executor_takes_over(attempt: Make) -> None:
    running = attempt(ranks=2)
    assert submit_in_another_process(running.spec, fault="") == 0  # and that controller is gone
    running.until(Phase.RUNNING)
    LocalExecutor().stop(running.handle, 600, checkpoint=True)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (seen.code, seen.stopped) == (130, True)


@pytest.mark.parametrize("fault", ["local.before_record", "local.before_spawn", "local.after_spawn"])
def test_the_controller_is_killed_while_it_submits(attempt: Make, fault: str) -> None:
    running = attempt(ranks=2)
    assert submit_in_another_process(running.spec, fault) == KILLED
    phase = running.see().phase
    # no clock is asked: either nothing was started, or a supervisor has the lock already
    assert phase == (Phase.STARTING if fault == "local.after_spawn" else Phase.ABSENT) or phase == Phase.RUNNING
    running.executor.submit(running.spec)
    running.until(Phase.RUNNING)
    assert len(running.processes()) == 4
    running.gate.touch()
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert seen.succeeded
    assert launches(running) == 1


@pytest.mark.parametrize("fault", ["local.before_fence", "local.after_fence", "local.before_sweep"])
def test_the_controller_is_killed_while_it_gives_an_attempt_up(attempt: Make, fault: str) -> None:
    running = attempt(ranks=2, stubborn=True).start()
    supervisor = running.shim()
    supervisor.signal(signal.SIGKILL)
    until(lambda: not supervisor.alive())
    program = (
        "import sys; from deepgen.controller.local import LocalExecutor;LocalExecutor().observe(sys.argv[1].encode())"
    )
    killed = subprocess.run([sys.executable, "-c", program, running.handle.decode()], env=fault_environment(fault))
    assert killed.returncode == KILLED
    assert running.see().phase == Phase.LOST
    assert running.processes() == []


def fault_environment(fault: str) -> dict[str, str]:
    """Of a process that is killed at that point."""
    return {**os.environ, "DEEPGEN_FAULT": fault}


@pytest.mark.parametrize("fault", ["shim.before_lock", "shim.before_record"])
def test_a_supervisor_that_dies_at_its_start_is_started_again_but_not_for_ever(
    attempt: Make, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = attempt(ranks=1)
    monkeypatch.setenv("DEEPGEN_FAULT", fault)
    for _ in range(STARTS):
        running.executor.submit(running.spec)
        until(lambda: running.see().phase == Phase.ABSENT)
    with pytest.raises(ExecutorError, match="the supervisor does not start"):
        running.executor.submit(running.spec)


@pytest.mark.parametrize(
    "fault", ["shim.before_spawn", "shim.after_spawn", "shim.before_kill", "shim.before_exit_record"]
)
def test_a_supervisor_that_dies_later_is_lost(attempt: Make, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    running = attempt(ranks=2)
    with monkeypatch.context() as patch:
        patch.setenv("DEEPGEN_FAULT", fault)
        running.executor.submit(running.spec)
    if fault == "shim.before_kill":
        running.until(Phase.RUNNING)
        running.executor.stop(running.handle, 0, checkpoint=False)
    else:
        running.gate.touch()
    assert running.until(Phase.ENDED, Phase.LOST).phase == Phase.LOST
    assert running.processes() == []
    running.executor.submit(running.spec)
    assert running.see().phase == Phase.LOST
    assert launches(running) <= 1


def test_stopped_before_it_was_submitted_it_never_starts(attempt: Make) -> None:
    running = attempt(ranks=1)
    running.executor.stop(running.handle, 600, checkpoint=True)
    running.executor.submit(running.spec)
    assert running.see().phase == Phase.LOST
    assert running.processes() == []
    assert launches(running) == 0


def test_stopped_right_after_submit(attempt: Make) -> None:
    for _ in range(5):
        running = attempt(ranks=2)
        running.executor.submit(running.spec)
        running.executor.stop(running.handle, 600, checkpoint=True)
        seen = running.until(Phase.ENDED).exit
        assert seen is not None
        assert seen.stopped
        assert not seen.succeeded
        assert running.processes() == []


def test_a_note_to_stop_is_found_by_a_supervisor_that_did_not_listen_yet(attempt: Make) -> None:
    running = attempt(ranks=1)
    running.spec.folder.mkdir(parents=True)
    note = {"uid": running.spec.uid, "grace": 600, "checkpoint": True}
    with (running.spec.folder / records.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a supervisor that has just been forked
        running.executor.stop(running.handle, 600, checkpoint=True)
    assert records.read_record(running.spec.folder / records.STOP) == note
    running.executor.submit(running.spec)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (seen.stopped, seen.code, launches(running)) == (True, None, 0)


def test_a_stranger_with_the_pid_of_a_dead_supervisor_is_left_alone(attempt: Make) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        running = attempt(ranks=1).start()
        supervisor = running.shim()
        supervisor.signal(signal.SIGKILL)
        until(lambda: not supervisor.alive())
        process = Process.of(stranger.pid)
        assert process is not None
        record = records.read_record(running.spec.folder / records.SHIM)
        assert record is not None
        forged = {**record, **process.record(), "start_time": process.start_time - 7}
        records.write_record(running.spec.folder / records.SHIM, forged)
        records.write_record(running.spec.folder / "rank_0.pid", forged)
        running.executor.stop(running.handle, 0, checkpoint=False)
        assert running.see().phase == Phase.LOST
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_thirty_two_at_once_do_not_disturb_each_other(attempt: Make, tmp_path: Path) -> None:
    gate = str(tmp_path / "all")
    all_of_them = [attempt(ranks=1, gate=gate) for _ in range(32)]
    for running in all_of_them:
        running.executor.submit(running.spec)
    for running in all_of_them:
        running.until(Phase.RUNNING)
    all_of_them[7].executor.stop(all_of_them[7].handle, 0, checkpoint=False)
    all_of_them[7].until(Phase.ENDED)
    assert all(running.see().phase == Phase.RUNNING for running in all_of_them if running is not all_of_them[7])
    Path(gate).touch()
    for running in all_of_them:
        seen = running.until(Phase.ENDED).exit
        assert seen is not None
        assert seen.succeeded == (running is not all_of_them[7])


def test_the_handle_is_all_that_is_needed(attempt: Make) -> None:
    running = attempt(ranks=1)
    assert json.loads(running.handle) == {"folder": str(running.spec.folder), "uid": running.spec.uid, "ranks": 1}
