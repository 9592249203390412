"""One program for all ranks of a machine: who comes first starts it and leaves word, the others find it there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

RUN = ("DEEPGEN_ATTEMPT", "DEEPGEN_ATTEMPT_ID", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
"""What is the same for all ranks of a run, and for no other run at the same time."""


@dataclass(frozen=True)
class Shared:
    """A program that runs: its socket and what proves who asks."""

    socket: str
    token: str


class Meeting:
    """A folder in which the ranks of a run on this machine tell each other of one endpoint's program."""

    def __init__(self, endpoint: str) -> None:
        run = [os.environ.get(name, "") for name in RUN]
        key = hashlib.sha256("\n".join([*run, endpoint]).encode()).hexdigest()[:16]
        self._folder = Path(tempfile.gettempdir()) / f"deepgen-plugins-{os.getuid()}" / key
        self.alone = os.environ.get("WORLD_SIZE", "1") == "1"
        """There are no other ranks to meet."""

    @contextmanager
    def first(self) -> Iterator[None]:
        """Nobody else starts the program meanwhile."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.parent.stat().st_uid != os.getuid():
            raise OSError(f"{self._folder.parent} belongs to somebody else")
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def found(self) -> Shared | None:
        """What another rank left."""
        try:
            return Shared(**json.loads((self._folder / "shared.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def leave(self, shared: Shared) -> None:
        """Leaves word for the others, which only this user can read."""
        aside = self._folder / f".shared.{os.getpid()}"
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(asdict(shared)), encoding="utf-8")
        aside.rename(self._folder / "shared.json")
