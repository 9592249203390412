"""What starts, watches and stops attempts: the interface of an executor, and what it is told and tells.

An executor is asked again and again and must answer from what is on record: it may be a new object in a new process,
after the old one was killed at any line. So every method may be repeated, and none depends on an earlier call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol


class ExecutorError(Exception):
    """An attempt cannot be started at all, and starting it again would not help: LAUNCH_ERROR, with a line why."""


@dataclass(frozen=True)
class Spec:
    """What an attempt is made of."""

    uid: str
    """Of the attempt; never used for another one."""
    folder: Path
    """Of the attempt, absolute; the executor makes it."""
    command: tuple[str, ...]
    """Of the launcher."""
    ranks: int
    working_folder: Path
    """Where the launcher starts."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the launcher gets besides the environment of the controller."""
    removed: tuple[str, ...] = ()
    """Names it does not get of it; a name may end with `*`."""


class Phase(Enum):
    """Where an attempt is."""

    ABSENT = "absent"
    """Nothing of it was ever started, and nothing will be unless it is submitted (again)."""
    STARTING = "starting"
    """It has a supervisor; not all of its ranks are there yet."""
    RUNNING = "running"
    """All ranks are there, or were."""
    ENDED = "ended"
    """It is over, none of its processes is left, and `exit` says how it ended."""
    LOST = "lost"
    """Its supervisor died without a word, or it was stopped before it had one. None of its processes is left, and it
    can never start again."""


@dataclass(frozen=True)
class Exit:
    """How an attempt ended, as its supervisor recorded it."""

    code: int | None
    """Of the launcher; negative: the signal that ended it. None: it was never started."""
    ranks: int
    done: tuple[int, ...] = ()
    """Ranks that recorded that all their work is done."""
    failed: tuple[int, ...] = ()
    """Ranks that were gone before without such a record, while nobody had asked them to end; the first ones first."""
    survivors: tuple[str, ...] = ()
    """Processes that the launcher left behind and that were then ended: `rank 1 (pid 4711)`, `python (pid 4712)`."""
    stopped: bool = False
    """A stop was asked for before it ended."""
    forced: str = ""
    """Why the supervisor ended processes by SIGKILL: "grace", "now", "failed", or empty when it did not have to."""
    launch_error: str = ""
    """Why the launcher could not be started."""
    oom_kills: int | None = None
    """Processes that the kernel ended for lack of memory meanwhile, in this control group or else on this machine;
    None where that is not known."""
    seconds: float = 0.0
    """From the launcher's start to its end."""

    @property
    def succeeded(self) -> bool:
        """Exit code 0, a record of every rank, and nothing left behind."""
        return self.code == 0 and len(self.done) == self.ranks and not self.survivors


@dataclass(frozen=True)
class Observation:
    """What an executor sees of an attempt."""

    phase: Phase
    exit: Exit | None = None
    """With ENDED only."""
    ranks: int = 0
    """Those that have been seen, of `Spec.ranks`."""
    note: str = ""
    """What a person should know, such as a process that does not die."""


class Executor(Protocol):
    """Starts, watches and stops attempts. Safe in any thread; two calls on one attempt must not overlap."""

    def handle(self, spec: Spec) -> bytes:
        """What finds the attempt again, in this process or a later one. Starts nothing: keep it before `submit`."""
        ...

    def submit(self, spec: Spec) -> None:
        """Starts an attempt, unless it was started before: the same `uid` never runs twice.

        Returns when its supervisor is on its way, within milliseconds. Raises:
            ExecutorError: it cannot be started; for good.
            OSError: not now (no space, no process); it may be submitted again.
        """
        ...

    def observe(self, handle: bytes) -> Observation:
        """Where the attempt is. An attempt whose supervisor is gone is cleaned up before it is said to be LOST.

        Raises:
            OSError: not known now; ask again. It says nothing on the attempt.
        """
        ...

    def stop(self, handle: bytes, grace: float, checkpoint: bool) -> None:
        """Asks for the end of an attempt, and returns at once: `observe` tells when it is over.

        With `checkpoint` the ranks get SIGTERM and `grace` seconds to write one, then SIGKILL; without it they get
        SIGKILL now. Before there are ranks everything ends now. Asked twice, the earlier end holds. An attempt that
        was never started never will be. After its end this changes nothing.

        Raises:
            OSError: not now; ask again.
        """
        ...

    def adopt(self, handle: bytes) -> Observation:
        """`observe`, for an attempt that another process submitted or was about to; after a controller's restart."""
        ...
