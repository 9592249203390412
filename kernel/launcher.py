"""Starts the ranks of a run on this machine and waits for them: `deepgen run` without the weight of another launcher.

Stdlib only until a rank dies, so that the ranks' own imports begin at once. The ranks meet through a file, not a port:
two runs on one machine cannot take each other's port or join each other by mistake. For several hosts use the
`deepspeed` launcher.
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
from contextlib import suppress
from pathlib import Path
from types import FrameType

from .attempt import STOPPED, failed, first_error, is_silent, log_of, stopped_at_once
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
        codes = _wait(attempt)
        if stopped_at_once(attempt):
            print(f"deepgen: {STOPPED}", file=sys.stderr)
            return Interrupted.exit_code
        for line in (first_error(attempt) or "").splitlines():
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


def _wait(attempt: Path) -> list[int]:
    """The exit codes, by rank. When one rank fails, the others get time to report and are then ended."""
    codes: dict[int, int] = {}
    deadline, begin = None, time.monotonic()
    while len(codes) < len(_children):
        for rank, child in enumerate(_children):
            if rank not in codes and child.poll() is not None:
                codes[rank] = child.returncode
                if is_silent(attempt, rank):
                    codes[rank] = codes[rank] if codes[rank] < 0 else 1  # also one of 0: it did not do its part
                    _speak_for(attempt, rank, child.returncode, time.monotonic() - begin)
        if deadline is None and any(codes.values()):
            deadline = time.monotonic() + SECONDS_TO_REPORT
        if deadline is not None and time.monotonic() > deadline:
            _end()
            return [codes.get(rank, child.returncode) for rank, child in enumerate(_children)]
        time.sleep(0.05)
    return [codes[rank] for rank in range(len(_children))]


def _speak_for(attempt: Path, rank: int, code: int, seconds: float) -> None:
    """Says how a rank has ended that could not say so, to the other ranks as well; of rank 0, also in the record."""
    words = f"rank {rank} ended by itself with exit code {code} before the run was done"
    if code < 0:
        hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
        words = f"rank {rank} was ended by {signal.Signals(-code).name}{hint}"
    log = log_of(attempt, rank)
    failed(attempt, rank, f"{words}; its log is {log}" if log is not None else words)
    if rank == 0 and log is not None:
        from .events import finish

        with suppress(OSError):
            finish(log.parents[1], words, seconds)


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


def _verdict(codes: Sequence[int]) -> int:
    if not any(codes):
        return 0
    return next((code for code in EXIT_CODES if code in codes), 1)
