"""One program for all ranks of a machine: who comes first starts it and leaves word, the others find it there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from socket import gethostname
from typing import IO

from . import attempt
from .errors import PluginError
from .keeper import LEFT, LOCK

RUN = ("DEEPGEN_ATTEMPT", "DEEPGEN_ATTEMPT_ID", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
"""What is the same for all ranks of a run, and for no other run at the same time."""


@dataclass(frozen=True)
class Shared:
    """A program that runs: its socket and what proves who asks."""

    socket: str
    token: str


class Meeting:
    """A folder in which the ranks of a run on this machine tell each other of one endpoint's program.

    It is among the records of the attempt, where there are some, and is gone with the program: its keeper sees to that.
    """

    def __init__(self, endpoint: str) -> None:
        host = gethostname()  # the folder may be one that other machines see
        run = [os.environ.get(name, "") for name in RUN]
        key = hashlib.sha256("\n".join([*run, host, endpoint]).encode()).hexdigest()[:16]
        records = attempt.folder()
        place = records if records is not None else Path(tempfile.gettempdir())
        self.folder = place / f"deepgen-plugins-{os.getuid()}-{key}"
        self.alone = os.environ.get("WORLD_SIZE", "1") == "1"
        """There are no other ranks to meet."""

    @contextmanager
    def first(self) -> Iterator[None]:
        """Nobody else starts the program meanwhile."""
        with self._locked():
            yield

    def _locked(self) -> IO[str]:
        while True:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):  # the keeper of a program that has ended takes the folder away
                found = self.folder.lstat()  # a link could lead to a folder in which others write
                if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
                    raise PluginError(f"{self.folder} is not this user's alone; delete it, or set TMPDIR")
                file = self.folder / LOCK
                lock = file.open("w", encoding="utf-8")
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
                    return lock

    def found(self) -> Shared | None:
        """What another rank left."""
        try:
            return Shared(**json.loads((self.folder / LEFT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def leave(self, shared: Shared) -> None:
        """Leaves word for the others, which only this user can read."""
        aside = self.folder / f".{LEFT}.{os.getpid()}"
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(asdict(shared)), encoding="utf-8")
        aside.rename(self.folder / LEFT)
