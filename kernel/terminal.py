"""The person's terminal and the rank's log: everything libraries print goes to the log, one rank speaks."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TextIO


class Terminal:
    """Takes over file descriptors 1 and 2 of this process.

    Until the run folder is known the log is a temporary file; `move_log` puts it into the folder. In an attempt of the
    controller they stay as they are: the launcher has given each rank a file of its own, which clients follow.
    """

    def __init__(self, rank: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.rank = rank
        self.stream: TextIO = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
        """Where a person reads: the standard error that the process was started with."""
        self._kept = "DEEPGEN_ATTEMPT_ID" in os.environ and stat.S_ISREG(os.fstat(2).st_mode)
        if self._kept:
            self.log = Path(os.readlink("/proc/self/fd/2"))
            return
        handle, name = tempfile.mkstemp(prefix=f"deepgen-rank_{rank}-", suffix=".log")
        self.log = Path(name)
        self._redirect(handle)

    def move_log(self, path: Path) -> None:
        """Puts the log where it belongs; attempts of a resumed run follow each other in it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._kept:
            aside = path.with_name(f".{path.name}.new")
            aside.unlink(missing_ok=True)
            aside.symlink_to(self.log)
            aside.rename(path)
            return
        sys.stdout.flush()
        sys.stderr.flush()
        before = self.log.read_bytes()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, before)
        self._redirect(handle)
        self.log.unlink(missing_ok=True)
        self.log = path

    def say(self, line: str) -> None:
        """Prints a line for the person; only rank 0 has a voice."""
        if self.rank == 0:
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """Forgets an empty temporary log."""
        sys.stdout.flush()
        sys.stderr.flush()
        if not self._kept and self.log.parent == Path(tempfile.gettempdir()) and self.log.stat().st_size == 0:
            self.log.unlink(missing_ok=True)

    def _redirect(self, handle: int) -> None:
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)
