"""Processes by identity, and which of them belong to an attempt. Linux, by /proc; stdlib only.

A pid is used again; a pid with its start time and the boot is not. Nothing is signalled by its pid alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROC = Path("/proc")
TRACKER = b"DEEPGEN_TRACKER=1"
"""In the environment of a process that outlives its run, since it records how the run ended (kernel/tracking.py)."""
PR_SET_CHILD_SUBREAPER = 36


@cache
def boot_id() -> str:
    """Of this run of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class Process:
    """One process, for ever."""

    pid: int
    start_time: int
    """In clock ticks since the boot (field 22 of /proc/PID/stat)."""
    boot_id: str

    @staticmethod
    def of(pid: int) -> Process | None:
        """The process that has the pid now; None where there is none, or only its exit status."""
        stat = _stat(pid)
        return Process(pid, stat.start_time, boot_id()) if stat and stat.lives else None

    @staticmethod
    def read(record: Any) -> Process | None:
        """From what `record` gave; None where it is something else."""
        try:
            return Process(int(record["pid"]), int(record["start_time"]), str(record["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None

    def record(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self

    def signal(self, number: int) -> bool:
        """Sends a signal to this process and to no other; whether it was there."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # asked after the handle was opened: from here on it means the process that was looked at
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


@dataclass(frozen=True)
class _Stat:
    name: str
    state: str
    parent: int
    threads: int
    start_time: int

    @property
    def lives(self) -> bool:
        """Not only its exit status is left; its first thread may have ended before the others."""
        return self.state not in "ZX" or self.threads > 1


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return _Stat(name, fields[0], int(fields[1]), int(fields[17]), int(fields[19]))


def name_of(pid: int) -> str:
    """What the system calls the process."""
    stat = _stat(pid)
    return stat.name if stat else "?"


def members(cookie: str, root: int | None = None) -> list[Process]:
    """The living processes whose environment holds `cookie` (NAME=VALUE), and those that descend from `root`.

    Without this process, those above it, and trackers with what they started.
    """
    stats = _stats()
    spared = set(_line(os.getpid(), stats))
    trackers: set[int] = set()
    belonging: set[int] = set()
    wanted = cookie.encode()
    for pid in stats:
        if pid in spared:
            continue
        entries = _environment(pid)
        if wanted in entries:
            belonging.add(pid)
        if TRACKER in entries:
            trackers.add(pid)
    found = []
    for pid, stat in stats.items():
        if pid in spared or not stat.lives:
            continue
        line = _line(pid, stats)
        if trackers.intersection(line):
            continue
        if pid in belonging or (root is not None and root in line):
            found.append(Process(pid, stat.start_time, boot_id()))
    return found


def descendants(root: int) -> list[Process]:
    """The living processes that descend from one, and that one."""
    stats = _stats()
    lines = ((pid, stat) for pid, stat in stats.items() if stat.lives and root in _line(pid, stats))
    return [Process(pid, stat.start_time, boot_id()) for pid, stat in lines]


def command_of(pid: int) -> list[str]:
    """The words that a process was started with; none where it is gone."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [os.fsdecode(word) for word in words[:-1]]


def _stats() -> dict[int, _Stat]:
    return {int(entry): stat for entry in os.listdir(PROC) if entry.isdigit() and (stat := _stat(int(entry)))}


def _line(pid: int, stats: dict[int, _Stat]) -> list[int]:
    """The process, its parent, and so on up."""
    line: list[int] = []
    while pid in stats and pid not in line:
        line.append(pid)
        pid = stats[pid].parent
    return line


def _environment(pid: int) -> frozenset[bytes]:
    """As the process was started with it; empty where it is gone or somebody else's."""
    try:
        return frozenset((PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return frozenset()


def kill(processes: Iterable[Process]) -> None:
    """Ends them by force."""
    for process in processes:
        process.signal(signal.SIGKILL)


def adopt_orphans() -> None:
    """From now on this process is the parent of every descendant whose own parent has died."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(error)}")


def oom_kills() -> dict[str, int]:
    """How many processes the kernel has ended for lack of memory: in the control group of this one, on the machine."""
    counts: dict[str, int] = {}
    for path in (*_memory_events(), PROC / "vmstat"):
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                counts[str(path)] = int(count)
    return counts


def _memory_events() -> list[Path]:
    """Where the control group of this process counts; version 2 or 1."""
    try:
        lines = (PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    paths = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            paths.append(Path(f"/sys/fs/cgroup{group}/memory.events"))
        elif "memory" in controllers.split(","):
            paths.append(Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control"))
    return paths
