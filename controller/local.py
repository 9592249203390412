"""The executor of this machine: a supervisor (shim.py) for each attempt, which outlives the controller."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from . import records
from .control import tell
from .executor import ExecutorError, Exit, Observation, Phase, Spec
from .faults import point
from .processes import kill, members
from .shim import COOKIE

STARTS = 3
"""How often a supervisor may be started that dies before it has written down who it is."""
SECONDS_TO_SWEEP = 5.0
"""How long `observe` may take to end what a dead supervisor has left."""


class LocalExecutor:
    """See executor.Executor. All it knows is in the folders of the attempts, so it may be made anew at any time.

    The lock of an attempt is taken before the supervisor is forked, which inherits it. So a free lock means that there
    is no supervisor, and that none is on its way: no clock and no pid is asked.
    """

    def handle(self, spec: Spec) -> bytes:
        """The folder, the uid and the number of ranks."""
        return json.dumps({"folder": str(spec.folder), "uid": spec.uid, "ranks": spec.ranks}).encode()

    def submit(self, spec: Spec) -> None:
        """Starts the supervisor, unless there is or was one."""
        spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(spec.folder) as lock:
            known = records.read_record(spec.folder / records.ATTEMPT)
            if known is not None and known["uid"] != spec.uid:
                raise ExecutorError(f"{spec.folder} is of another attempt")
            if lock is None or any((spec.folder / n).exists() for n in (records.SHIM, records.EXIT, records.FENCE)):
                return
            starts = known["starts"] + 1 if known else 1
            if starts > STARTS:
                raise ExecutorError(f"the supervisor does not start: {_last_line(spec.folder / records.SHIM_LOG)}")
            point("local.before_record")
            attempt = {
                "uid": spec.uid,
                "starts": starts,
                "command": spec.command,
                "ranks": spec.ranks,
                "working_folder": str(spec.working_folder),
                "environment": dict(spec.environment),
                "removed": spec.removed,
            }
            records.write_record(spec.folder / records.ATTEMPT, attempt)
            point("local.before_spawn")
            _spawn(spec, lock)
            point("local.after_spawn")

    def observe(self, handle: bytes) -> Observation:
        """What the records say; where there is neither an end nor a supervisor, the attempt is given up."""
        return self._observe(handle, give_up=False)

    def adopt(self, handle: bytes) -> Observation:
        """The same: nothing is known that is not on record."""
        return self._observe(handle, give_up=False)

    def stop(self, handle: bytes, grace: float, checkpoint: bool) -> None:
        """Tells the supervisor; one that does not listen yet finds a note."""
        folder, uid, _ = _parse(handle)
        message = {"uid": uid, "grace": grace, "checkpoint": checkpoint}
        if (folder / records.EXIT).exists() or tell(folder, message):
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(folder) as lock:
            alive = lock is None
        if alive:
            records.write_record(folder / records.STOP, message)
            tell(folder, message)  # it may have begun to listen after it looked for the note
        else:
            self._observe(handle, give_up=True)

    def _observe(self, handle: bytes, give_up: bool) -> Observation:
        """`give_up`: also what was never started is LOST from now on."""
        _reap()
        folder, uid, ranks = _parse(handle)
        if ended := _exit(folder, uid):
            return Observation(Phase.ENDED, ended, ranks)
        if not folder.is_dir() and not give_up:
            return Observation(Phase.ABSENT)
        seen = sum((folder / f"rank_{rank}.pid").exists() for rank in range(ranks))
        with _lock(folder) as lock:
            if lock is None:
                return Observation(Phase.RUNNING if seen == ranks else Phase.STARTING, ranks=seen)
            # the end may have been written between the first look and the lock
            if ended := _exit(folder, uid):
                return Observation(Phase.ENDED, ended, ranks)
            started = (folder / records.SHIM).exists()
            if not started and not give_up and not (folder / records.FENCE).exists():
                return Observation(Phase.ABSENT)
            point("local.before_fence")
            if not (folder / records.FENCE).exists():
                records.write_record(folder / records.FENCE, {"uid": uid})
            point("local.after_fence")
            left = _sweep(uid)
        if left:
            return Observation(Phase.RUNNING, ranks=seen, note=f"its supervisor is gone; {left} processes do not die")
        return Observation(Phase.LOST, ranks=seen)


_supervisors: list[subprocess.Popen[bytes]] = []
"""Those that this process has started: their exit codes mean nothing, but somebody has to take them."""
_supervisors_lock = threading.Lock()


def _spawn(spec: Spec, lock: int) -> None:
    # -P: neither the folder it starts in nor a script's folder is searched for modules
    command = [sys.executable, "-P", "-m", "deepgen.controller.shim", str(spec.folder), spec.uid, str(lock)]
    with (spec.folder / records.SHIM_LOG).open("ab") as log:
        shim = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )
    with _supervisors_lock:
        _supervisors.append(shim)


def _reap() -> None:
    with _supervisors_lock:
        _supervisors[:] = [shim for shim in _supervisors if shim.poll() is None]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int | None]:
    """The lock of an attempt, taken; None where a supervisor has it."""
    handle = os.open(folder / records.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)  # a supervisor that was given it still holds it


def _sweep(uid: str) -> int:
    """Ends everything that carries the attempt's cookie; how many are left that do not die."""
    point("local.before_sweep")
    until = time.monotonic() + SECONDS_TO_SWEEP
    while left := members(f"{COOKIE}={uid}"):
        kill(left)
        if time.monotonic() > until:
            break
        time.sleep(0.005)
    return len(left)


def _parse(handle: bytes) -> tuple[Path, str, int]:
    told: dict[str, Any] = json.loads(handle)
    return Path(told["folder"]), str(told["uid"]), int(told["ranks"])


def _exit(folder: Path, uid: str) -> Exit | None:
    record = records.read_record(folder / records.EXIT)
    if record is None or record["uid"] != uid:
        return None
    known = {item.name for item in fields(Exit)}
    told = {name: value for name, value in record.items() if name in known}
    return Exit(**{**told, **{name: tuple(told[name]) for name in ("done", "failed", "survivors")}})


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        return str(error)
    return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")
