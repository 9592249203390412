"""The supervisor of one attempt: `python -P -m deepgen.controller.shim FOLDER UID [LOCK]`. Stdlib only.

It starts the launcher, passes a stop on to the ranks, ends what the launcher leaves behind, and records how it all
ended. It outlives the controller, and knows nothing but the folder of its attempt (records.py). Why not the launcher
alone: it exits 0 when its second stage is killed, leaves ranks running when it is killed itself, and takes 30 seconds
for each rank that does not want to end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import records
from .control import Control
from .faults import point
from .processes import Process, adopt_orphans, boot_id, kill, members, name_of, oom_kills

REFUSED = 3
"""Exit code: this attempt is not, or no longer, to be started."""
COOKIE = "DEEPGEN_ATTEMPT_ID"
"""In the environment of every process of an attempt: its uid."""
SECONDS_TO_REPORT = 20.0
"""How long the other ranks may take to end by themselves after one has failed."""
SECONDS_TO_SETTLE = 2.0
"""How long helpers of a rank may take to notice that it has ended, when all ranks are done."""
TICK = 1.0
"""Seconds between two looks at the ranks; the end of the launcher and a message are noticed at once."""
SHORT_TICK = 0.02
"""The same, while something is being ended."""


def main(argv: list[str]) -> int:
    """Supervises the attempt to its end: 0, or REFUSED."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        # a handler and not SIG_IGN, which the launcher and its ranks would inherit
        signal.signal(number, lambda *_: None)
    folder, uid = Path(argv[0]), argv[1]
    lock = int(argv[2]) if len(argv) > 2 else os.open(folder / records.LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, False)
    if refusal := _refusal(folder, uid, lock):
        print(f"shim: {refusal}", file=sys.stderr)
        return REFUSED
    attempt = records.read_record(folder / records.ATTEMPT)
    assert attempt is not None
    Shim(folder, uid, attempt).run()
    return 0


def _refusal(folder: Path, uid: str, lock: int) -> str:
    """Why this attempt must not be started here and now; takes the lock."""
    point("shim.before_lock")
    if not os.path.samestat(os.fstat(lock), os.stat(folder / records.LOCK)):
        return "the lock is of another attempt"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another supervisor has the attempt"
    attempt = records.read_record(folder / records.ATTEMPT)
    if attempt is None or attempt["uid"] != uid:
        return f"the folder is not of attempt {uid}"
    for name, why in ((records.FENCE, "was given up"), (records.EXIT, "has ended"), (records.SHIM, "was started")):
        if (folder / name).exists():
            return f"the attempt {why} before"
    return ""


class Shim:
    """One attempt, from its start to its record."""

    def __init__(self, folder: Path, uid: str, attempt: Mapping[str, Any]) -> None:
        self._folder = folder
        self._uid = uid
        self._attempt = attempt
        self._ranks = int(attempt["ranks"])
        self._launcher: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._launch_error = ""
        self._ended: float | None = None
        """When the launcher did; this and all times are of the monotonic clock, which nobody can set."""
        self._deadline: float | None = None
        """When everything is to be ended by force; there is one as soon as a stop was asked for."""
        self._asked: set[int] = set()
        """Ranks that have got their SIGTERM."""
        self._forced = ""
        self._failed: dict[int, float] = {}
        """Ranks that ended without having done their work, and when that was seen."""
        self._survivors: list[str] = []

    def run(self) -> None:
        """Starts the launcher, waits until all is over, and records it."""
        adopt_orphans()
        self._before = oom_kills()
        self._begun = time.monotonic()
        records.reserve(self._folder / records.RESERVE, records.RESERVED)
        self._control = Control(self._folder, self._uid)
        point("shim.before_record")
        me = Process.of(os.getpid())
        assert me is not None
        about = {"uid": self._uid, **me.record(), "oom_kills": self._before, "time": time.time()}
        records.write_record(self._folder / records.SHIM, about)
        self._read_note()
        if self._deadline is None:
            self._start()
        while not self._is_over():
            self._serve(TICK if self._deadline is None and self._code is None else SHORT_TICK)
        self._record()

    def _start(self) -> None:
        """Starts the launcher in a session of its own, its output in a file: a pipe's reader could die."""
        point("shim.before_spawn")
        removed = [*self._attempt["removed"], "DEEPGEN_FAULT"]
        kept = {n: v for n, v in os.environ.items() if not any(fnmatchcase(n, pattern) for pattern in removed)}
        try:
            with (self._folder / records.LAUNCHER_LOG).open("ab") as log:
                self._launcher = subprocess.Popen(
                    self._attempt["command"],
                    cwd=self._attempt["working_folder"],
                    env={**kept, **self._attempt["environment"], COOKIE: self._uid},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            self._launch_error = str(error)
        point("shim.after_spawn")

    def _serve(self, seconds: float) -> None:
        """Waits so long for a message or the end of a child."""
        for stop in self._control.wait(seconds):
            self._ask(stop)
        if self._deadline is None:
            self._read_note()

    def _read_note(self) -> None:
        """A stop whose sender could not reach the socket."""
        if (self._folder / records.STOP).exists() and (note := records.read_record(self._folder / records.STOP)):
            self._ask(note)

    def _ask(self, stop: Mapping[str, Any]) -> None:
        """Takes in a stop; of two, the earlier end holds."""
        grace = max(0.0, float(stop.get("grace", 0))) if stop.get("checkpoint") else 0.0
        deadline = time.monotonic() + grace
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        point("shim.asked")

    def _is_over(self) -> bool:
        """Does what is due; True when the launcher has ended and nothing is left."""
        self._reap()
        if self._deadline is None:
            self._look_after_ranks()
        else:
            self._stop(self._deadline)
        if self._launcher is not None and self._code is None:
            return False
        left = members(self._cookie, os.getpid())
        if left:
            now, ended = time.monotonic(), self._ended or 0.0
            if any(process.alive() for process in self._rank_processes().values()):
                if self._deadline is not None:
                    return False  # it may be writing its checkpoint; `_stop` sees to the end
            elif now < ended + SECONDS_TO_SETTLE and (self._deadline is not None or len(self._done()) == self._ranks):
                return False
            self._survivors = [self._describe(process) for process in left]
            self._end("")
        return True

    def _stop(self, deadline: float) -> None:
        """SIGTERM to the ranks alone: the launcher would not give them time. SIGKILL to all, once time is up."""
        ranks = self._rank_processes()
        if time.monotonic() >= deadline:
            self._end("grace" if self._asked else "now")
        elif not ranks and self._code is None:
            self._end("now")  # before there is anything to keep
        for rank, process in ranks.items():
            if rank not in self._asked:  # also one that comes up only now
                self._asked.add(rank)
                process.signal(signal.SIGTERM)

    def _look_after_ranks(self) -> None:
        """Notices ranks that failed, and ends the others when they do not see it or cannot end."""
        now, done = time.monotonic(), self._done()
        for rank, process in self._rank_processes().items():
            if rank not in self._failed and rank not in done and not process.alive() and rank not in self._done():
                self._failed[rank] = now
        if self._failed and self._code is None and now > min(self._failed.values()) + SECONDS_TO_REPORT:
            self._end("failed")

    def _end(self, why: str) -> None:
        """Ends by force whatever belongs to the attempt, until nothing is left."""
        point("shim.before_kill")
        self._forced = self._forced or why
        begun = time.monotonic()
        while left := members(self._cookie, os.getpid()):
            kill(left)
            self._reap()
            # what the system does not let die at once (a disk or a device that does not answer) is tried again for ever
            self._serve(SHORT_TICK / 4 if time.monotonic() < begun + 5 else TICK)
        self._reap()

    def _reap(self) -> None:
        """Takes the exit codes of the launcher, and of orphans, which are our children now."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._launcher is not None and pid == self._launcher.pid:
                self._code = self._launcher.returncode = os.waitstatus_to_exitcode(status)
                self._ended = time.monotonic()

    @property
    def _cookie(self) -> str:
        return f"{COOKIE}={self._uid}"

    def _done(self) -> list[int]:
        return [rank for rank in range(self._ranks) if (self._folder / f"rank_{rank}.done").exists()]

    def _rank_processes(self) -> dict[int, Process]:
        """The ranks that have told their pid."""
        found = {}
        for rank in range(self._ranks):
            with contextlib.suppress(OSError, ValueError):  # a rank's own record, which the run may have spoilt
                process = Process.read(records.read_record(self._folder / f"rank_{rank}.pid"))
                if process is not None and process.boot_id == boot_id():
                    found[rank] = process
        return found

    def _describe(self, process: Process) -> str:
        for rank, known in self._rank_processes().items():
            if known == process:
                return f"rank {rank} (pid {process.pid})"
        return f"{name_of(process.pid)} (pid {process.pid})"

    def _record(self) -> None:
        """Writes the exit record, however long the disk refuses it: until then the attempt is not over."""
        point("shim.before_exit_record")
        after = oom_kills()
        grown = [after[place] - count for place, count in self._before.items() if place in after]
        record = {
            "uid": self._uid,
            "code": self._code,
            "ranks": self._ranks,
            "done": self._done(),
            "failed": sorted(self._failed, key=lambda rank: (self._failed[rank], rank)),
            "survivors": self._survivors[:100],
            "stopped": self._deadline is not None,
            "forced": self._forced,
            "launch_error": self._launch_error,
            "oom_kills": max(grown) if grown else None,
            "seconds": round(max(0.0, (self._ended or self._begun) - self._begun), 3),
            "boot_id": boot_id(),
        }
        while True:
            try:
                records.write_record(self._folder / records.EXIT, record, self._folder / records.RESERVE)
                break
            except OSError as error:
                print(f"shim: the exit record cannot be written yet: {error}", file=sys.stderr, flush=True)
                time.sleep(TICK)
        point("shim.after_exit_record")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
