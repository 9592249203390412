"""What an ended attempt died of, and the lines that tell it: from the records of its folder and what its ranks printed.

HANG, DEADLINE, SUSPENDED, PREEMPTED and CANCELLED are known to whoever asked for the end.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepgen.v1.job_pb2 import Attempt

from ..kernel.attempt import CONSEQUENCE
from . import records
from .evidence import Secrets, tail
from .executor import Exit
from .processes import boot_id

LINES = 20
"""Of evidence, at most."""
NO_SPACE = re.compile(r"No space left on device|\[Errno 28\]|Disk quota exceeded|\[Errno 122\]|disk is full")
DEVICE = re.compile(r"(CUDA|HIP)( error:)? out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED")
HOST = re.compile(
    r"\bMemoryError\b|std::bad_alloc|DefaultCPUAllocator: can't allocate|\[Errno 12\]|Cannot allocate memory"
)
MEETING = re.compile(
    r"\brendezvous:|EADDRINUSE|Address already in use|DistStoreError|DistNetworkError|connectFullMesh"
    r"|waiting for clients|client socket has (timed out|failed to connect)"
)
INTERRUPTED = 130
USER = 2
DEADLY = (4, 6, 7, 8, 9, 11, 15)
"""Signals that a launcher's exit code may stand for: launch.py gives `-number & 255`; 255 is more often `exit(-1)`."""


@dataclass(frozen=True)
class Diagnosis:
    """Why an attempt ended."""

    cause: Attempt.Cause.ValueType
    message: str
    """A line."""
    evidence: list[str] = field(default_factory=list)
    """`FILE: line`; without values of the environment, tokens and passwords."""


@dataclass(frozen=True)
class _Said:
    """What a rank left as the reason of its end."""

    rank: int
    text: str
    code: int | None

    @property
    def file(self) -> str:
        return f"rank_{self.rank}.error"


MESSAGES: dict[Attempt.Cause.ValueType, str] = {
    Attempt.HANG: "made no progress for too long",
    Attempt.DEADLINE: "reached its time limit",
    Attempt.SUSPENDED: "suspended",
    Attempt.PREEMPTED: "preempted",
    Attempt.CANCELLED: "cancelled",
}


def diagnose(folder: Path, exit: Exit | None, asked: Attempt.Cause.ValueType | None = None) -> Diagnosis:
    """The cause of the end of an attempt that is over.

    Args:
        folder: of the attempt.
        exit: None when it was LOST.
        asked: why it was asked to end, if it was. That is the cause, unless the attempt was complete by then, or a
            rank of one that was only to pause said something that another attempt would meet again.
    """
    secrets = Secrets(folder)
    case = _Case(folder, exit)
    found = case.diagnosis() if asked is None else case.asked(asked)
    evidence = [secrets.hide(line) for line in found.evidence[:LINES]]
    return Diagnosis(found.cause, secrets.hide(found.message), evidence)


def run_has_succeeded(folder: Path) -> bool:
    """Whether the run itself said so during this attempt, however the attempt then ended; its results are whole.

    Another attempt would find a finished run. The file must have changed since the attempt began: a run that starts
    over has the events of the former one until it has emptied the run folder.
    """
    begun, events = folder / records.ATTEMPT, folder.parent.parent / "run" / "events.jsonl"
    try:
        if events.stat().st_mtime_ns < begun.stat().st_mtime_ns:
            return False
        last = json.loads([line for line in tail(events) if line][-1])
    except (OSError, ValueError, IndexError):
        return False
    return bool(last.get("finished", {}).get("state") == "SUCCEEDED")


class _Case:
    def __init__(self, folder: Path, exit: Exit | None) -> None:
        self.folder, self.exit = folder, exit
        attempt = records.read_record(folder / records.ATTEMPT) or {}
        self.ranks = exit.ranks if exit else int(attempt.get("ranks", 0))
        self.done = [rank for rank in range(self.ranks) if (folder / f"rank_{rank}.done").exists()]
        self.seen = [rank for rank in range(self.ranks) if (folder / f"rank_{rank}.pid").exists()]
        self.said = list(self._read_errors())
        told = {said.rank for said in self.said} | {rank for rank in self.seen if self._code(rank) is not None}
        self.silent = [rank for rank in self.seen if rank not in told and rank not in self.done]
        """Ranks that began and neither finished nor said why."""

    def diagnosis(self) -> Diagnosis:
        """The first that fits, from the surest to the most general."""
        exit = self.exit
        if exit and exit.launch_error:
            full = NO_SPACE.search(exit.launch_error)
            return self._say(Attempt.DISK_FULL if full else Attempt.LAUNCH_ERROR, exit.launch_error)
        if exit and exit.succeeded:
            return self._say(Attempt.COMPLETED, "completed")
        if exit is None and self.ranks and len(self.done) == self.ranks:
            return self._say(Attempt.COMPLETED, "completed; its supervisor was killed after all ranks were done")
        return self._by_errors() or self._by_ends() or self._by_logs() or self._general()

    def asked(self, cause: Attempt.Cause.ValueType) -> Diagnosis:
        """The cause of an attempt that was asked to end."""
        if (self.exit and self.exit.succeeded) or (self.ranks and len(self.done) == self.ranks):
            return self._say(Attempt.COMPLETED, "completed")
        own = self._by_errors() if cause in (Attempt.SUSPENDED, Attempt.PREEMPTED) else None
        if own is not None and own.cause in (Attempt.USER_ERROR, Attempt.DISK_FULL, Attempt.DEVICE_OOM):
            return own
        forced = "; ended by force" if self.exit and self.exit.forced == "grace" else ""
        return Diagnosis(cause, MESSAGES.get(cause, "stopped") + forced)

    def _by_errors(self) -> Diagnosis | None:
        """What a rank itself says is surest, unless it only says that another one is gone."""
        for said in self.said:
            if said.code == USER:
                return self._say(Attempt.USER_ERROR, said.text, said)
            for pattern, cause in (
                (NO_SPACE, Attempt.DISK_FULL),
                (DEVICE, Attempt.DEVICE_OOM),
                (HOST, Attempt.HOST_OOM),
            ):
                if pattern.search(said.text):
                    return self._say(cause, said.text, said)
        if not self.silent:
            for said in self.said:
                if MEETING.search(said.text):
                    return self._say(Attempt.RENDEZVOUS, said.text, said)
        for said in self.said:
            if said.code != INTERRUPTED and not CONSEQUENCE.search(said.text) and not MEETING.search(said.text):
                return self._say(Attempt.RUN_ERROR, said.text, said)
        return None

    def _by_ends(self) -> Diagnosis | None:
        """How the processes ended, as the supervisor saw it."""
        exit = self.exit
        if exit is None:
            return self._without_supervisor()
        if exit.stopped and exit.forced:
            return self._say(Attempt.INTERRUPTED, "stopped, and ended by force")
        memory = f"the kernel ended {exit.oom_kills} processes for lack of memory meanwhile" if exit.oom_kills else ""
        left = f"; it left behind {', '.join(exit.survivors[:8])}" if exit.survivors else ""
        code = exit.code or 0
        gone = [rank for rank in exit.failed if rank in self.silent]
        if gone and code == 0 and not exit.forced and not exit.survivors:
            message = f"rank {gone[0]} ended by itself with exit code 0 before the run was done"
            ending = [line for log in self._logs(gone[0]) for line in self._ending(log, 12)]
            return self._say(Attempt.RANK_KILLED, message, evidence=ending)
        if not exit.forced and code <= 0:
            how = f"was ended by {_signal(-code)}" if code < 0 else "ended without an answer"
            if memory and len(self.done) != self.ranks:
                return self._say(Attempt.HOST_OOM, f"the launcher {how}: {memory}{left}")
            return self._say(Attempt.LAUNCHER_LOST, f"the launcher {how}{left}")
        number = self._logged_signal() or (256 - code if 256 - code in DEADLY else None)
        if (self.silent or number) and not exit.stopped:
            first = next((rank for rank in (*exit.failed, *self.silent) if rank in self.silent), None)
            who = "a rank" if first is None else f"rank {first}"
            how = f"{who} was ended by {_signal(number)}" if number else f"{who} ended without a word"
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                return self._say(Attempt.INTERRUPTED, how)
            if memory and number in (None, signal.SIGKILL):
                return self._say(Attempt.HOST_OOM, f"{how}: {memory}")
            hint = "; the machine may be out of memory" if number == signal.SIGKILL and exit.oom_kills is None else ""
            return self._say(Attempt.RANK_KILLED, how + hint)
        return None

    def _without_supervisor(self) -> Diagnosis:
        shim = records.read_record(self.folder / records.SHIM)
        if shim is None:
            return self._say(Attempt.LAUNCH_ERROR, "it was given up before it was started", log=records.SHIM_LOG)
        if shim.get("boot_id") != boot_id():
            return self._say(Attempt.SUPERVISOR_LOST, "the machine was restarted")
        return self._say(Attempt.SUPERVISOR_LOST, "the supervisor of the attempt was killed", log=records.SHIM_LOG)

    def _by_logs(self) -> Diagnosis | None:
        """What stands in the logs counts where nobody has said anything better."""
        for pattern, cause in (
            (NO_SPACE, Attempt.DISK_FULL),
            (DEVICE, Attempt.DEVICE_OOM),
            (HOST, Attempt.HOST_OOM),
            (MEETING, Attempt.RENDEZVOUS),
        ):
            for log in self._logs():
                for line in tail(log):
                    if pattern.search(line):
                        return self._say(cause, line.strip(), evidence=self._around(log, line))
        return None

    def _general(self) -> Diagnosis:
        exit = self.exit
        code = exit.code if exit else None
        if self.said and all(said.code == INTERRUPTED for said in self.said):
            return self._say(Attempt.INTERRUPTED, self.said[0].text, self.said[0])
        if not self.said and any(self._code(rank) == INTERRUPTED for rank in self.seen):
            return self._say(Attempt.INTERRUPTED, "the ranks were asked to end")
        if exit and exit.stopped:
            return self._say(Attempt.INTERRUPTED, "stopped")
        if os.statvfs(self.folder).f_bavail == 0:
            return self._say(Attempt.DISK_FULL, f"the disk of {self.folder} is full")
        if self.said:
            return self._say(Attempt.RUN_ERROR, self.said[0].text, self.said[0])
        if not self.seen:
            message = f"the launcher ended with code {code} before there were ranks"
            return self._say(Attempt.LAUNCH_ERROR, message, log=records.LAUNCHER_LOG)
        return self._say(Attempt.RUN_ERROR, f"the launcher ended with code {code}", log=records.LAUNCHER_LOG)

    def _say(
        self,
        cause: Attempt.Cause.ValueType,
        message: str,
        said: _Said | None = None,
        log: str = "",
        evidence: Sequence[str] = (),
    ) -> Diagnosis:
        lines = list(evidence)
        if said is not None:
            lines = [f"{said.file}: {line}" for line in said.text.splitlines()]
            if cause == Attempt.RUN_ERROR:
                lines += [line for path in self._logs(said.rank) for line in self._ending(path, 12)]
        elif not lines and cause != Attempt.COMPLETED:
            lines = [f"{other.file}: {line}" for other in self.said[:4] for line in other.text.splitlines()[:2]]
            lines += self._ending(self.folder / (log or records.LAUNCHER_LOG), LINES // 2)
        first = message.strip().splitlines()
        return Diagnosis(cause, first[0] if first else "", lines[:LINES])

    def _read_errors(self) -> Iterator[_Said]:
        """What the ranks said, the first to fail first."""
        files = [(self.folder / f"rank_{rank}.error", rank) for rank in range(self.ranks)]
        there = sorted((path.stat().st_mtime_ns, rank, path) for path, rank in files if path.exists())
        for _, rank, path in there:
            yield _Said(rank, path.read_text(encoding="utf-8", errors="replace").strip(), self._code(rank))

    def _code(self, rank: int) -> int | None:
        try:
            return int((self.folder / f"rank_{rank}.code").read_text(encoding="ascii"))
        except (OSError, ValueError):
            # the launcher passes on the code of one rank, which is the only one when there is one
            return self.exit.code if self.exit and self.ranks == 1 and self.exit.code in (USER, INTERRUPTED) else None

    def _logged_signal(self) -> int | None:
        lines = "\n".join(tail(self.folder / records.LAUNCHER_LOG))
        numbers = re.findall(r"exits with return code = -(\d+)", lines)
        return int(numbers[-1]) if numbers else None

    def _logs(self, rank: int | None = None) -> list[Path]:
        """Of one rank or of all, the launcher's last; those of the run folder only when this attempt wrote to them."""
        name = "*" if rank is None else str(rank)
        begun = self.folder / records.ATTEMPT
        since = begun.stat().st_mtime_ns if begun.exists() else 0
        run = (self.folder.parent.parent / "run" / "log").glob(f"rank_{name}.log")
        run = (log for log in run if not log.is_symlink())  # to one of the former
        logs = [*sorted((self.folder / records.RANK_LOGS).glob(f"*_rank{name}.log")), *sorted(run)]
        last = [self.folder / records.LAUNCHER_LOG] if rank is None else []
        return [log for log in logs if log.stat().st_mtime_ns >= since] + last

    def _ending(self, log: Path, lines: int) -> list[str]:
        return [f"{self._named(log)}: {line}" for line in tail(log) if line.strip()][-lines:]

    def _around(self, log: Path, line: str) -> list[str]:
        lines = [each for each in tail(log) if each.strip()]
        place = lines.index(line)
        return [f"{self._named(log)}: {each}" for each in lines[max(0, place - 10) : place + 5]]

    def _named(self, log: Path) -> str:
        home = self.folder if log.is_relative_to(self.folder) else self.folder.parent.parent
        return str(log.relative_to(home))


def _signal(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
