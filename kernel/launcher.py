"""Starts the ranks of a run on this machine and waits for them: `deepgen run` without the weight of another launcher.

Stdlib only, so that the ranks' own imports begin at once. The ranks meet through a file, not a port: two runs on one
machine cannot take each other's port or join each other by mistake. For several hosts use the `deepspeed` launcher.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .attempt import STOPPED, first_error, stopped_at_once
from .errors import Interrupted

SECONDS_TO_REPORT = 15.0
"""How long the other ranks may take to end by themselves after one has failed."""
SECONDS_TO_DIE = 5.0
"""Between SIGTERM and SIGKILL."""
EXIT_CODES = (2, 1, 130)
"""What the run ends with when ranks disagree: a user's mistake first, then a failure, then an interruption."""


def launch(reference: str, tokens: Sequence[str], ranks: int) -> int:
    """Runs a scene on `ranks` processes and returns the exit code: 0, 1 (failed), 2 (user's mistake) or 130 (stopped).

    Ctrl-C reaches the ranks themselves; once stops them cleanly with a checkpoint, twice at once.
    """
    attempt = Path(tempfile.mkdtemp(prefix="deepgen-"))
    command = [sys.executable, "-m", "deepgen.kernel.worker", "--scene", reference, *tokens]
    signals = {name: signal.signal(name, _pass_on) for name in (signal.SIGINT, signal.SIGTERM)}
    _children.clear()
    try:
        for rank in range(ranks):
            _children.append(subprocess.Popen(command, env=_environment(rank, ranks, attempt)))
        codes = _wait()
        if stopped_at_once(attempt):
            print(f"deepgen: {STOPPED}", file=sys.stderr)
            return Interrupted.exit_code
        for line in _first_error(attempt, codes):
            print(f"deepgen: {line}", file=sys.stderr)
        return _verdict(codes)
    finally:
        for child in _children:
            child.poll()
            if child.returncode is None:
                child.kill()
        for name, handler in signals.items():
            signal.signal(name, handler)
        shutil.rmtree(attempt, ignore_errors=True)


_children: list[subprocess.Popen[bytes]] = []


def _pass_on(number: int, frame: FrameType | None) -> None:
    """SIGTERM goes on to the ranks; a terminal's Ctrl-C has reached them already."""
    if number == signal.SIGTERM or not sys.stdin or not sys.stdin.isatty():
        for child in _children:
            if child.poll() is None:
                child.send_signal(number)


def _environment(rank: int, ranks: int, attempt: Path) -> dict[str, str]:
    environment = dict(os.environ)
    environment.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        LOCAL_WORLD_SIZE=str(ranks),
        DEEPGEN_ATTEMPT=str(attempt),
        DEEPGEN_LAUNCHER=str(os.getpid()),
        DEEPGEN_RENDEZVOUS=f"file://{attempt}/rendezvous",
    )
    # Without a bound each rank would start a thread for each core, and they would fight for them.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
    return environment


def _wait() -> list[int]:
    """The exit codes, by rank. When one rank fails, the others get time to report and are then ended."""
    deadline = None
    while any(child.poll() is None for child in _children):
        if deadline is None and any(child.returncode not in (None, 0) for child in _children):
            deadline = time.monotonic() + SECONDS_TO_REPORT
        if deadline is not None and time.monotonic() > deadline:
            _end()
        time.sleep(0.05)
    return [child.returncode for child in _children]


def _end() -> None:
    for child in _children:
        if child.poll() is None:
            child.terminate()
    until = time.monotonic() + SECONDS_TO_DIE
    while time.monotonic() < until and any(child.poll() is None for child in _children):
        time.sleep(0.05)
    for child in _children:
        if child.poll() is None:
            child.kill()
            child.wait()


def _first_error(attempt: Path, codes: Sequence[int]) -> list[str]:
    """What the first rank to fail wrote down; the others failed because of it."""
    if (said := first_error(attempt)) is not None:
        return said.splitlines()
    killed = [(rank, code) for rank, code in enumerate(codes) if code < 0]
    if killed:
        rank, code = killed[0]
        name = signal.Signals(-code).name
        hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
        return [f"rank {rank} was ended by {name}{hint}"]
    return []


def _verdict(codes: Sequence[int]) -> int:
    if not any(codes):
        return 0
    return next((code for code in EXIT_CODES if code in codes), 1)
