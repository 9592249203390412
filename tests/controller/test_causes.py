"""What an attempt died of: planted ends and their causes, and what must not be seen in the evidence."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from attempts import Running, stand_in

from deepgen.controller import records
from deepgen.controller.causes import LINES, diagnose, run_has_succeeded
from deepgen.controller.executor import Exit, Phase
from deepgen.controller.processes import boot_id
from deepgen.v1.job_pb2 import Attempt

KILLED = 256 - 9
"""What launch.py makes of a rank that was ended by SIGKILL."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an attempt of two ranks that have begun."""
    place = tmp_path / "job" / "attempts" / "1"
    (place / records.RANK_LOGS).mkdir(parents=True)
    records.write_record(place / records.ATTEMPT, {"uid": "u", "ranks": 2, "environment": {"MY_API_KEY": "hush-hush"}})
    records.write_record(place / records.SHIM, {"uid": "u", "boot_id": boot_id()})
    for rank in range(2):
        (place / f"rank_{rank}.pid").write_text("{}", encoding="utf-8")
    return place


def said(folder: Path, rank: int, text: str, code: int = 1) -> None:
    """What a rank left; a later call was later."""
    (folder / f"rank_{rank}.error").write_text(text + "\n", encoding="utf-8")
    now = time.time_ns()
    os.utime(folder / f"rank_{rank}.error", ns=(now, now))
    (folder / f"rank_{rank}.code").write_text(f"{code}\n", encoding="utf-8")


def ended(code: int | None = 1, **more: Any) -> Exit:
    """How it ended."""
    return Exit(code=code, ranks=2, **{"oom_kills": 0, **more})


def name(cause: Attempt.Cause.ValueType) -> str:
    """As people read it."""
    return Attempt.Cause.Name(cause)


PEER = "rank 0 failed: RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:24341"


@pytest.mark.parametrize(
    ("first", "code", "second", "cause"),
    [
        ("scenes/x.yaml:3: no column 'sentance' in data.tsv", 2, PEER, "USER_ERROR"),
        ("rank 1 failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", 1, PEER, "DEVICE_OOM"),
        ("rank 1 failed: OSError: [Errno 28] No space left on device: 'runs/x'", 1, PEER, "DISK_FULL"),
        ("rank 1 failed: RuntimeError: DefaultCPUAllocator: can't allocate memory", 1, PEER, "HOST_OOM"),
        ("rendezvous: rank 1 of attempt a met ranks of another attempt, b", 1, PEER, "RENDEZVOUS"),
        ("rank 1 failed: DistNetworkError: port 29500: EADDRINUSE, Address already in use", 1, PEER, "RENDEZVOUS"),
        ("rank 1 failed: ZeroDivisionError: division by zero", 1, PEER, "RUN_ERROR"),
        ("stopped at step 7; a checkpoint was written", 130, "stopped at step 7", "INTERRUPTED"),
    ],
)
def test_by_what_the_ranks_said(folder: Path, first: str, code: int, second: str, cause: str) -> None:
    said(folder, 1, first, code)
    said(folder, 0, second, 130 if code == 130 else 1)
    found = diagnose(folder, ended())
    assert name(found.cause) == cause
    assert found.message == first
    assert found.evidence[0] == f"rank_1.error: {first}"


def test_a_mistake_of_the_user_comes_first_whoever_spoke_first(folder: Path) -> None:
    said(folder, 0, PEER)
    said(folder, 1, "data.tsv:7: 3 columns, where 2 are expected", 2)
    found = diagnose(folder, ended())
    assert (name(found.cause), found.message) == ("USER_ERROR", "data.tsv:7: 3 columns, where 2 are expected")


@pytest.mark.parametrize(
    ("exit", "cause", "words"),
    [
        (ended(0, done=(0, 1)), "COMPLETED", "completed"),
        (ended(None, launch_error="[Errno 2] No such file: 'deepspeed'"), "LAUNCH_ERROR", "No such file"),
        (ended(None, launch_error="[Errno 28] No space left on device"), "DISK_FULL", "No space"),
        (ended(0, survivors=("rank 0 (pid 7)",)), "LAUNCHER_LOST", "left behind rank 0 (pid 7)"),
        (ended(0, done=(0, 1), survivors=("python (pid 8)",)), "LAUNCHER_LOST", "left behind python (pid 8)"),
        (ended(-9), "LAUNCHER_LOST", "the launcher was ended by SIGKILL"),
        (ended(-9, oom_kills=1), "HOST_OOM", "for lack of memory"),
        (ended(KILLED, failed=(1,)), "RANK_KILLED", "rank 1 was ended by SIGKILL"),
        (ended(KILLED, failed=(1,), oom_kills=None), "RANK_KILLED", "may be out of memory"),
        (ended(KILLED, failed=(1,), oom_kills=2), "HOST_OOM", "the kernel ended 2 processes for lack of memory"),
        (ended(256 - 11, failed=(0,), oom_kills=2), "RANK_KILLED", "rank 0 was ended by SIGSEGV"),
        (ended(-9, stopped=True, forced="grace"), "INTERRUPTED", "ended by force"),
    ],
)
def test_by_how_it_ended(folder: Path, exit: Exit, cause: str, words: str) -> None:
    found = diagnose(folder, exit)
    assert name(found.cause) == cause
    assert words in found.message


def test_a_rank_that_ends_the_program_with_exit_code_0_has_failed(folder: Path) -> None:
    found = diagnose(folder, ended(0, failed=(1,)))
    words = "rank 1 ended by itself with exit code 0 before the run was done"
    assert (name(found.cause), found.message) == ("RANK_KILLED", words)


def test_what_others_say_of_a_killed_rank_is_not_the_cause(folder: Path) -> None:
    said(folder, 0, PEER)
    found = diagnose(folder, ended(1, failed=(1,)))
    assert (name(found.cause), found.message) == ("RANK_KILLED", "rank 1 ended without a word")
    assert any("Connection closed by peer" in line for line in found.evidence)


def test_the_launcher_says_which_signal_it_was(folder: Path) -> None:
    said(folder, 0, PEER)
    (folder / records.LAUNCHER_LOG).write_text("[ERROR] ['python'] exits with return code = -9\n", encoding="utf-8")
    found = diagnose(folder, ended(1, failed=(1,), oom_kills=3))
    assert name(found.cause) == "HOST_OOM"
    assert "launcher.log: [ERROR] ['python'] exits with return code = -9" in found.evidence


def test_lost(folder: Path) -> None:
    found = diagnose(folder, None)
    assert (name(found.cause), found.message) == ("SUPERVISOR_LOST", "the supervisor of the attempt was killed")


def test_lost_with_the_machine(folder: Path) -> None:
    records.write_record(folder / records.SHIM, {"uid": "u", "boot_id": "another"})
    assert diagnose(folder, None).message == "the machine was restarted"


def test_lost_when_all_was_done_is_complete(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank_{rank}.done").touch()
    assert name(diagnose(folder, None).cause) == "COMPLETED"


def test_lost_after_a_mistake_of_the_user_is_that_mistake(folder: Path) -> None:
    said(folder, 0, "learning_rate = 'fast' is no number", 2)
    assert name(diagnose(folder, None).cause) == "USER_ERROR"


def test_a_rank_that_is_killed_before_it_can_say_who_it_is(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank_{rank}.pid").unlink()
    assert diagnose(folder, ended(KILLED)).message == "a rank was ended by SIGKILL"
    assert name(diagnose(folder, ended(256 - 15)).cause) == "INTERRUPTED"
    assert name(diagnose(folder, ended(255)).cause) == "LAUNCH_ERROR"


def test_no_rank_ever_began(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank_{rank}.pid").unlink()
    (folder / records.LAUNCHER_LOG).write_text("Traceback\nModuleNotFoundError: deepspeed\n", encoding="utf-8")
    found = diagnose(folder, ended(1))
    assert name(found.cause) == "LAUNCH_ERROR"
    assert found.evidence[-1] == "launcher.log: ModuleNotFoundError: deepspeed"


def test_only_the_log_tells(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank_{rank}.code").write_text("1", encoding="ascii")
    log = folder / records.RANK_LOGS / "20260101000000_rank1.log"
    log.write_text("step 1\nstep 2\ntorch.OutOfMemoryError: CUDA out of memory.\n", encoding="utf-8")
    found = diagnose(folder, ended(1))
    assert name(found.cause) == "DEVICE_OOM"
    assert found.evidence[-1] == f"ranks/{log.name}: torch.OutOfMemoryError: CUDA out of memory."


def test_a_log_of_the_run_that_an_earlier_attempt_left_says_nothing(folder: Path) -> None:
    for rank in range(2):
        (folder / f"rank_{rank}.code").write_text("1", encoding="ascii")
    log = folder.parent.parent / "run" / "log" / "rank_0.log"
    log.parent.mkdir(parents=True)
    log.write_text("CUDA out of memory\n", encoding="utf-8")
    os.utime(log, (1, 1))
    assert name(diagnose(folder, ended(1)).cause) == "RUN_ERROR"


def test_the_traceback_is_evidence_and_bounded(folder: Path) -> None:
    said(folder, 0, "rank 0 failed: KeyError: 'x'; the whole story is in log/rank_0.log")
    log = folder.parent.parent / "run" / "log" / "rank_0.log"
    log.parent.mkdir(parents=True)
    log.write_text("noise\n" * 50_000 + "Traceback:\n  File \"model.py\", line 3\nKeyError: 'x'\n", encoding="utf-8")
    found = diagnose(folder, ended(1))
    assert found.evidence[-1] == "run/log/rank_0.log: KeyError: 'x'"
    assert len(found.evidence) <= LINES


def test_nothing_secret_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse")
    text = (
        "cannot reach https://ada:s3cr3t@mlflow.example/api with correct-horse and hush-hush\n"
        "Authorization: Bearer abc.def.ghi\nNCCL_SOCKET_IFNAME=eth7 and api_key='zzz-111' hf_ABCDEFGHIJKLMNOP\n"
        "tokenizer: 512 tokens: fine\n" + "x" * 5000
    )
    said(folder, 0, text)
    found = diagnose(folder, ended(1))
    shown = "\n".join([found.message, *found.evidence])
    for secret in ("s3cr3t", "correct-horse", "hush-hush", "abc.def", "eth7", "zzz-111", "hf_ABC"):
        assert secret not in shown, secret
    assert "tokenizer: 512 tokens: fine" in shown
    assert "https://ada:[hidden]@mlflow.example/api" in shown
    assert max(map(len, found.evidence)) < 500


def test_whoever_asked_knows_why(folder: Path) -> None:
    said(folder, 0, "stopped at step 7", 130)
    forced = ended(-9, stopped=True, forced="grace")
    assert name(diagnose(folder, forced, Attempt.PREEMPTED).cause) == "PREEMPTED"
    assert diagnose(folder, forced, Attempt.CANCELLED).message == "cancelled; ended by force"
    assert name(diagnose(folder, None, Attempt.HANG).cause) == "HANG"
    assert name(diagnose(folder, ended(0, done=(0, 1), stopped=True), Attempt.CANCELLED).cause) == "COMPLETED"
    said(folder, 1, "rank 1 failed: OSError: [Errno 28] No space left on device", 1)
    assert name(diagnose(folder, ended(1, stopped=True), Attempt.SUSPENDED).cause) == "DISK_FULL"
    assert name(diagnose(folder, ended(1, stopped=True), Attempt.CANCELLED).cause) == "CANCELLED"


def test_a_run_that_had_succeeded_before_its_processes_were_killed(folder: Path) -> None:
    assert not run_has_succeeded(folder)
    events = folder.parent.parent / "run" / "events.jsonl"
    events.parent.mkdir()
    events.write_text('{"sequence": "8", "scored": {}}\n{"sequence": "9", "finished": {"state": "SUCCEEDED"}}\n')
    assert run_has_succeeded(folder)
    os.utime(events, (1, 1))  # of the run before one that starts over
    assert not run_has_succeeded(folder)
    events.write_text('{"sequence": "9", "finished": {"state": "INTERRUPTED"}}\n{"seq')
    assert not run_has_succeeded(folder)


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ({"ranks": 2, "exit": {"1": 2}, "error": {"1": "no such file: a.tsv"}}, "USER_ERROR"),
        ({"ranks": 2, "signal": {"1": 9}}, "RANK_KILLED"),
        ({"ranks": 1, "signal": {"0": 11}}, "RANK_KILLED"),
        ({"ranks": 2, "exit": {"0": 1}, "error": {"0": "[Errno 28] No space left on device"}}, "DISK_FULL"),
        ({"ranks": 2, "exit": {"0": 1}, "error": {"0": "CUDA out of memory"}}, "DEVICE_OOM"),
        ({"ranks": 2, "unrecorded": [0]}, "RANK_KILLED"),
        ({"ranks": 2}, "COMPLETED"),
    ],
)
def test_real_ends(tmp_path: Path, behaviour: dict[str, Any], cause: str) -> None:
    running = Running(stand_in(tmp_path / "job" / "attempts" / "1", **json.loads(json.dumps(behaviour))))
    running.executor.submit(running.spec)
    seen = running.until(Phase.ENDED)
    assert name(diagnose(running.spec.folder, seen.exit).cause) == cause
    running.clean()
