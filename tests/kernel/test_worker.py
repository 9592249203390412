"""What a rank leaves for whoever supervises it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from deepgen.kernel import attempt

WORKER = [sys.executable, "-m", "deepgen.kernel.worker"]


def test_a_rank_tells_who_it_is_and_why_it_ended(tmp_path: Path) -> None:
    environment = {**os.environ, "RANK": "3", "DEEPGEN_ATTEMPT": str(tmp_path)}
    process = subprocess.Popen([*WORKER, "--scene", "/no/such.yaml"], env=environment)
    assert process.wait() == 2
    told = json.loads((tmp_path / "rank_3.pid").read_text(encoding="utf-8"))
    assert told["pid"] == process.pid
    assert told["start_time"] > 0
    assert told["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert "/no/such.yaml" in (tmp_path / "rank_3.error").read_text(encoding="utf-8")
    assert (tmp_path / "rank_3.code").read_text(encoding="ascii") == "2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank_3.code", "rank_3.error", "rank_3.pid"]


def test_a_rank_that_is_done_says_so_and_takes_the_devices_it_is_given(tmp_path: Path) -> None:
    program = (
        "import os, sys; from deepgen.kernel import worker;"
        "worker._main = lambda *_: 0 if os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-a,3' else 1;"
        "sys.exit(worker.main([]))"
    )
    given = {"RANK": "0", "DEEPGEN_ATTEMPT": str(tmp_path), "DEEPGEN_DEVICES": "GPU-a,3", "CUDA_VISIBLE_DEVICES": "0,1"}
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **given}, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank_0.done", "rank_0.pid"]


def test_a_rank_that_left_without_a_word_was_stopped_and_the_others_did_not_fail(tmp_path: Path) -> None:
    attempt.code(tmp_path, 0, 130)
    attempt.failed(tmp_path, 1, "rank 1 failed: RuntimeError: Connection reset by peer")
    attempt.code(tmp_path, 1, 1)
    assert attempt.stopped_at_once(tmp_path)


def test_a_rank_that_failed_while_another_stopped_cleanly_has_failed(tmp_path: Path) -> None:
    attempt.failed(tmp_path, 1, "rank 1 failed: OSError: No space left on device")
    attempt.code(tmp_path, 1, 1)
    attempt.failed(tmp_path, 0, "stopped; the same command goes on from here")
    attempt.code(tmp_path, 0, 130)
    assert not attempt.stopped_at_once(tmp_path)
    assert attempt.first_error(tmp_path) == "rank 1 failed: OSError: No space left on device"


def test_words_that_are_too_long_are_cut_between_two_characters(tmp_path: Path) -> None:
    attempt.failed(tmp_path, 0, "x" + "é" * 5000)
    assert attempt.first_error(tmp_path) == "x" + "é" * 2047
