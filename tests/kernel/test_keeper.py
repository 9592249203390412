"""The keeper of a plugin's program passes SIGTERM on, ends as the program does, and ends it with its host."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deepgen.kernel import keeper

TGKILL = 234
"""The number of the system call that sends a signal to one thread, on x86-64."""
SEEN = 60.0
"""Seconds after which something that was to happen is taken not to."""
PROGRAM = """
import pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path({told!r}).touch()
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
pathlib.Path({begun!r}).touch()
while True:
    time.sleep(1)
"""


@dataclass
class Kept:
    """A program under its keeper."""

    process: subprocess.Popen[bytes]
    life: int
    folder: Path
    begun: Path
    told: Path
    """There once the program was told to end."""

    def wait_for_begin(self) -> None:
        until = time.monotonic() + SEEN
        while not self.begun.exists():
            assert time.monotonic() < until
            time.sleep(0.01)


@contextmanager
def kept(place: Path, program: str = PROGRAM) -> Iterator[Kept]:
    folder, begun, told = place / "folder", place / "begun", place / "told"
    folder.mkdir()
    (folder / "plugin.sock").touch()
    life, hosts = os.pipe()
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", program.format(begun=str(begun), told=str(told))]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__, str(life), str(folder), "", "--", *command],
        pass_fds=(life, theirs.fileno()),
        env={**os.environ, "DEEPGEN_PLUGIN_FD": str(theirs.fileno())},
        start_new_session=True,
    )
    os.close(life)
    theirs.close()
    try:
        yield Kept(process, hosts, folder, begun, told)
    finally:
        ours.close()
        os.close(hosts)
        process.wait(SEEN)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the system call has another number there")
@pytest.mark.parametrize("which", [0, -1])
def test_sigterm_is_passed_on_whichever_thread_gets_it(tmp_path: Path, which: int) -> None:
    with kept(tmp_path) as found:
        found.wait_for_begin()
        time.sleep(0.1)
        threads = sorted(int(thread.name) for thread in Path(f"/proc/{found.process.pid}/task").iterdir())
        assert ctypes.CDLL(None).syscall(TGKILL, found.process.pid, threads[which], signal.SIGTERM) == 0
        assert found.process.wait(SEEN) == 7
        assert found.told.exists()
        assert not found.folder.exists()


def test_sigterm_that_comes_early_is_not_lost(tmp_path: Path) -> None:
    with kept(tmp_path) as found:
        status = Path(f"/proc/{found.process.pid}/status")
        until = time.monotonic() + SEEN
        while not _catches(status, signal.SIGTERM):  # long before its program catches it
            assert time.monotonic() < until
        found.process.send_signal(signal.SIGTERM)
        assert found.process.wait(SEEN) in (7, 128 + signal.SIGTERM)
        assert not found.folder.exists()


def _catches(status: Path, number: int) -> bool:
    line = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def test_the_end_of_the_host_is_the_end_of_the_program_and_of_what_it_started(tmp_path: Path) -> None:
    program = "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n" + PROGRAM
    program = program.replace("import pathlib,", "import os, pathlib,").replace(
        "while True", "open({begun!r} + '.pids', 'w').write(f'{{os.getpid()}} {{child.pid}}')\nwhile True"
    )
    with kept(tmp_path, program) as found:
        found.wait_for_begin()
        time.sleep(0.2)
        pids = [int(pid) for pid in Path(f"{found.begun}.pids").read_text().split()]
    assert found.process.returncode == -signal.SIGKILL
    until = time.monotonic() + SEEN
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert not found.told.exists()
    assert not found.folder.exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("ending", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)])
def test_it_ends_as_the_program_does(tmp_path: Path, ending: str, code: int) -> None:
    with kept(tmp_path, f"import os, sys\n{ending}") as found:
        assert found.process.wait(SEEN) == code
        assert not found.folder.exists()
