"""The person's terminal and the rank's log: everything libraries print goes to the log, one rank speaks."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TextIO


class Terminal:
    """Takes over file descriptors 1 and 2 of this process.

    Until the run folder is known the log is a temporary file; `move_log` puts it into the folder.
    """

    def __init__(self, rank: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.rank = rank
        self.stream: TextIO = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
        """Where a person reads: the standard error that the process was started with."""
        handle, name = tempfile.mkstemp(prefix=f"deepgen-rank_{rank}-", suffix=".log")
        self.log = Path(name)
        self._redirect(handle)

    def move_log(self, path: Path) -> None:
        """Puts the log where it belongs; attempts of a resumed run follow each other in it."""
        path.parent.mkdir(parents=True, exist_ok=True)
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
        if self.log.parent == Path(tempfile.gettempdir()) and self.log.stat().st_size == 0:
            self.log.unlink(missing_ok=True)

    def _redirect(self, handle: int) -> None:
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)
