"""The supervisor over stand-in ranks: real processes, killed, stubborn, detached, and never taken for others."""

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
from attempts import KILLED, Running, stand_in, until

from deepgen.controller import control, records
from deepgen.controller.executor import Phase
from deepgen.controller.processes import Process, boot_id, members
from deepgen.controller.shim import REFUSED, SECONDS_TO_REPORT

Make = Callable[..., Running]


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Make]:
    """Makes attempts of stand-in ranks; what is left of them is ended, and must end."""
    made: list[Running] = []

    def make(*, folder: Path | None = None, environment: dict[str, str] | None = None, **behaviour: Any) -> Running:
        place = folder or tmp_path / f"attempt-{len(made)}"
        behaviour.setdefault("gate", str(tmp_path / f"gate-{len(made)}"))
        made.append(Running(stand_in(place, environment=environment, **behaviour)))
        return made[-1]

    yield make
    for running in made:
        running.clean()


def shim(running: Running, *, fault: str = "", uid: str = "") -> subprocess.Popen[bytes]:
    """The supervisor, started by hand."""
    command = [sys.executable, "-m", "deepgen.controller.shim", str(running.spec.folder), uid or running.spec.uid]
    return subprocess.Popen(command, env={**os.environ, "DEEPGEN_FAULT": fault}, stderr=subprocess.PIPE)


def recorded(running: Running) -> Running:
    """With the record that the executor writes before it starts a supervisor."""
    spec = running.spec
    spec.folder.mkdir(parents=True)
    told = {**spec.__dict__, "folder": "", "working_folder": str(spec.working_folder), "starts": 1}
    records.write_record(spec.folder / records.ATTEMPT, told)
    return running


def test_all_ranks_done_is_a_success(attempt: Make) -> None:
    running = attempt(ranks=3).start()
    running.gate.touch()
    seen = running.until(Phase.ENDED)
    assert seen.exit is not None
    assert seen.exit.succeeded
    assert (seen.exit.code, seen.exit.done, seen.exit.survivors, seen.exit.stopped) == (0, (0, 1, 2), (), False)


def test_exit_code_0_without_a_record_of_each_rank_is_none(attempt: Make) -> None:
    running = attempt(ranks=2, unrecorded=[1]).start()
    running.gate.touch()
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (seen.code, seen.done, seen.succeeded) == (0, (0,), False)


def test_a_rank_that_fails_gives_its_code(attempt: Make) -> None:
    running = attempt(ranks=2, exit={"1": 3})
    running.executor.submit(running.spec)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (seen.code, seen.succeeded, seen.forced) == (3, False, "")


def test_stop_lets_the_ranks_write_checkpoints(attempt: Make) -> None:
    running = attempt(ranks=4).start()
    running.executor.stop(running.handle, 600, checkpoint=True)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (seen.code, seen.stopped, seen.forced) == (130, True, "")
    assert all((running.spec.folder / f"checkpoint_{rank}").exists() for rank in range(4))


def test_stubborn_ranks_and_their_detached_children_go_after_the_grace(attempt: Make) -> None:
    running = attempt(ranks=8, stubborn=True, children=2).start()
    assert len(running.processes()) == 2 + 8 * 3
    running.executor.stop(running.handle, 0.5, checkpoint=True)
    seen = running.until(Phase.ENDED).exit
    assert running.processes() == []
    assert seen is not None
    assert (seen.code, seen.forced, seen.stopped) == (KILLED, "grace", True)


def test_stop_without_a_checkpoint_ends_all_at_once(attempt: Make) -> None:
    running = attempt(ranks=2).start()
    running.executor.stop(running.handle, 600, checkpoint=False)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert seen.forced == "now"
    assert not (running.spec.folder / "checkpoint_0").exists()


def test_stop_before_there_are_ranks(attempt: Make) -> None:
    running = attempt(ranks=2, hold="/never/there")
    running.executor.submit(running.spec)
    until(lambda: running.see().phase == Phase.STARTING and len(running.processes()) == 2)
    running.executor.stop(running.handle, 600, checkpoint=True)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (seen.forced, seen.stopped, seen.done) == ("now", True, ())


def test_of_two_stops_the_earlier_end_holds(attempt: Make) -> None:
    running = attempt(ranks=2, stubborn=True).start()
    running.executor.stop(running.handle, 3600, checkpoint=True)
    running.executor.stop(running.handle, 0.1, checkpoint=True)
    running.executor.stop(running.handle, 3600, checkpoint=True)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert seen.forced == "grace"


def test_stop_after_the_end_changes_nothing(attempt: Make) -> None:
    running = attempt(ranks=2).start()
    running.gate.touch()
    before = running.until(Phase.ENDED)
    running.executor.stop(running.handle, 0, checkpoint=False)
    assert running.see() == before


def test_stop_races_the_natural_end(attempt: Make) -> None:
    running = attempt(ranks=4).start()
    running.gate.touch()
    running.executor.stop(running.handle, 600, checkpoint=True)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    # whichever came first: it is a success only when every rank was done, and nothing is cut in half
    for rank in range(4):
        done, kept = (running.spec.folder / f"{name}_{rank}" for name in ("rank", "checkpoint"))
        assert done.with_suffix(".done").exists() or kept.exists()
    assert seen.succeeded == (seen.code == 0 and len(seen.done) == 4)


def test_the_first_stage_of_the_launcher_is_killed(attempt: Make) -> None:
    running = attempt(ranks=2, children=1).start()
    running.stages()[0].signal(signal.SIGKILL)
    seen = running.until(Phase.ENDED).exit
    assert running.processes() == []
    assert seen is not None
    assert (seen.code, seen.succeeded) == (KILLED, False)
    assert any(name.startswith("rank 0 ") for name in seen.survivors)


def test_the_second_stage_is_killed_and_the_first_says_0(attempt: Make) -> None:
    running = attempt(ranks=2).start()
    running.stages()[1].signal(signal.SIGKILL)
    seen = running.until(Phase.ENDED).exit
    assert running.processes() == []
    assert seen is not None
    assert (seen.code, seen.succeeded) == (0, False)
    assert {name.split(" (")[0] for name in seen.survivors} == {"rank 0", "rank 1"}


def test_what_all_ranks_leave_behind_is_ended_and_told(attempt: Make) -> None:
    running = attempt(ranks=2, children=1).start()
    running.gate.touch()
    seen = running.until(Phase.ENDED).exit
    assert running.processes() == []
    assert seen is not None
    assert len(seen.survivors) == 2
    assert not seen.succeeded


def test_a_rank_is_killed(attempt: Make) -> None:
    running = attempt(ranks=2).start()
    running.rank(1).signal(signal.SIGKILL)
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert seen.code == 256 - signal.SIGKILL
    assert 1 in seen.failed


def test_ranks_that_do_not_end_when_another_fails_are_ended(attempt: Make) -> None:
    assert SECONDS_TO_REPORT > 1
    running = attempt(ranks=2, stubborn=True)
    # the launcher waits for a rank that ignores it; the supervisor waits only so long
    program = (
        "import sys; from deepgen.controller import shim;"
        "shim.SECONDS_TO_REPORT = 0.1; sys.exit(shim.main(sys.argv[1:]))"
    )
    recorded(running)
    process = subprocess.Popen([sys.executable, "-c", program, str(running.spec.folder), running.spec.uid])
    running.until(Phase.RUNNING)
    running.rank(0).signal(signal.SIGKILL)
    assert process.wait() == 0
    seen = running.see().exit
    assert seen is not None
    assert (seen.failed, seen.forced) == ((0,), "failed")


def test_the_tracker_of_a_run_is_spared(attempt: Make) -> None:
    running = attempt(ranks=2, stubborn=True, tracker=True).start()
    marked = [process for process in everything(running) if process not in running.processes()]
    running.executor.stop(running.handle, 0, checkpoint=False)
    running.until(Phase.ENDED)
    assert running.processes() == []
    assert len(marked) == 1
    assert marked[0].alive()
    Path(f"{running.gate}.tracker").touch()
    until(lambda: not marked[0].alive())


def everything(running: Running) -> list[Process]:
    """All processes with the attempt's cookie, trackers too."""
    cookie, found = f"DEEPGEN_ATTEMPT_ID={running.spec.uid}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and cookie in _environment(entry):
            process = Process.of(int(entry.name))
            found += [process] if process else []
    return found


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_folder_with_a_very_long_path(attempt: Make, tmp_path: Path) -> None:
    running = attempt(folder=tmp_path / ("deep" * 20) / ("er" * 50) / "a b?c#d%20", ranks=1).start()
    assert len(str(running.spec.folder)) > 108
    assert control.tell(running.spec.folder, {"uid": running.spec.uid, "grace": 600, "checkpoint": True})
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert (running.spec.folder / "checkpoint_0").exists()


def test_a_lot_of_output_stops_nobody(attempt: Make) -> None:
    running = attempt(ranks=2, bytes=5_000_000, steps=10_000).start()
    running.gate.touch()
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert seen.succeeded
    logs = sorted((running.spec.folder / "ranks").iterdir())
    assert [log.stat().st_size > 5_000_000 for log in logs] == [True, True]


def test_messages_that_are_none_are_not_taken(attempt: Make) -> None:
    running = attempt(ranks=1).start()
    for message in ({"uid": "another"}, {}):
        assert not control.tell(running.spec.folder, message)
    assert running.see().phase == Phase.RUNNING


def test_signals_to_the_supervisor_do_not_end_it(attempt: Make) -> None:
    running = attempt(ranks=1).start()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        assert running.shim().signal(number)
    running.gate.touch()
    seen = running.until(Phase.ENDED).exit
    assert seen is not None
    assert seen.succeeded


def test_the_launcher_gets_no_signal_ignored_and_no_variable_of_the_controller(
    attempt: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_SECRET", "of the controller")
    monkeypatch.setenv("WORLD_SIZE", "7")
    running = attempt(ranks=1, environment={"GIVEN": "yes"}).start()
    first = running.stages()[0]
    status = Path(f"/proc/{first.pid}/status").read_text(encoding="utf-8")
    ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn:")).split()[1], 16)
    assert not ignored & (1 << (signal.SIGTERM - 1))
    assert not ignored & (1 << (signal.SIGHUP - 1))
    names = {entry.partition(b"=")[0] for entry in _environment(Path(f"/proc/{first.pid}"))}
    assert b"GIVEN" in names
    assert not names & {b"DEEPGEN_SECRET", b"WORLD_SIZE"}


def test_a_command_that_is_not_there(attempt: Make) -> None:
    running = attempt(ranks=1)
    spec = Running(type(running.spec)(**{**running.spec.__dict__, "command": ("/no/such/launcher",)}))
    spec.executor.submit(spec.spec)
    seen = spec.until(Phase.ENDED).exit
    assert seen is not None
    assert "No such file" in seen.launch_error
    assert seen.code is None
    assert not seen.succeeded


@pytest.mark.parametrize("refused", [records.FENCE, records.EXIT, records.SHIM])
def test_an_attempt_that_was_given_up_or_started_is_refused(attempt: Make, refused: str) -> None:
    running = recorded(attempt(ranks=1))
    (running.spec.folder / refused).write_text(json.dumps({"uid": running.spec.uid}), encoding="utf-8")
    assert shim(running).wait() == REFUSED
    assert running.processes() == []
    (running.spec.folder / refused).unlink()


def test_the_folder_of_another_attempt_is_refused(attempt: Make) -> None:
    running = recorded(attempt(ranks=1))
    assert shim(running, uid="another").wait() == REFUSED


def test_there_is_one_supervisor(attempt: Make) -> None:
    running = attempt(ranks=1).start()
    with (running.spec.folder / records.LOCK).open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert shim(running).wait() == REFUSED
    assert len(running.processes()) == 3


def test_a_pid_that_belongs_to_a_stranger_now_is_not_signalled(attempt: Make) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        process = Process.of(stranger.pid)
        assert process is not None
        former = Process(process.pid, process.start_time - 1, process.boot_id)
        other_boot = Process(process.pid, process.start_time, "another boot")
        assert not former.alive()
        assert not former.signal(signal.SIGKILL)
        assert not other_boot.signal(signal.SIGKILL)
        running = attempt(ranks=1, stubborn=True).start()
        records.write_record(running.spec.folder / "rank_0.pid", former.record())
        running.executor.stop(running.handle, 0, checkpoint=True)
        running.until(Phase.ENDED)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_no_decision_asks_the_wall_clock() -> None:
    folder = Path(records.__file__).parent
    for name in ("shim.py", "local.py", "control.py", "processes.py"):
        text = (folder / name).read_text(encoding="utf-8")
        allowed = '"time": time.time()'
        assert "time.time()" not in text.replace(allowed, ""), name
        assert "datetime" not in text, name


def test_the_supervisor_imports_the_stdlib_alone() -> None:
    program = (
        "import sys; before = set(sys.modules); import deepgen.controller.shim;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "['deepgen']"


FAULTS = [
    "shim.before_lock",
    "shim.before_record",
    "shim.before_spawn",
    "shim.after_spawn",
    "shim.asked",
    "shim.before_kill",
    "shim.before_exit_record",
    "shim.after_exit_record",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_killed_at_each_point(attempt: Make, fault: str) -> None:
    running = recorded(attempt(ranks=2))
    process = shim(running, fault=fault)
    if fault in ("shim.asked", "shim.before_kill"):
        running.until(Phase.RUNNING)
        running.executor.stop(running.handle, 0, checkpoint=False)
    elif fault.endswith("exit_record"):
        running.gate.touch()
    assert process.wait() == KILLED
    seen = running.see()
    assert running.processes() == []
    if fault in ("shim.before_lock", "shim.before_record"):
        assert seen.phase == Phase.ABSENT  # nothing was started: it may be submitted again, and runs once
        running.executor.submit(running.spec)
        running.gate.touch()
        ended = running.until(Phase.ENDED).exit
        assert ended is not None
        assert ended.succeeded
    elif fault == "shim.after_exit_record":
        assert seen.exit is not None
        assert seen.exit.succeeded
    else:
        assert seen.phase == Phase.LOST
        assert (running.spec.folder / records.FENCE).exists()
        assert shim(running).wait() == REFUSED
        running.executor.submit(running.spec)
        assert running.see().phase == Phase.LOST


def test_members_spares_this_process_and_those_above_it() -> None:
    parent = Process.of(os.getppid())
    found = members("NO=SUCH", os.getpid())
    assert Process.of(os.getpid()) not in found
    assert parent not in found
    assert boot_id()
