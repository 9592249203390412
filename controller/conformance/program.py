"""A plugin's program as the kernel starts it, with each step in hand: it can be told, left alone, and killed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ...kernel.plugin_process import hint
from ...kernel.wire_features import DESCRIPTOR, VERSIONS
from .checks import Wrong

SECONDS_TO_START = 60.0


class Program:
    """One running program; `end` leaves nothing of it behind."""

    def __init__(self, command: Sequence[str]) -> None:
        """Starts it and waits until it says that it listens.

        Raises:
            Wrong: it did not.
        """
        self.command = tuple(command)
        self._folder = Path(tempfile.mkdtemp(prefix="deepgen-check-"))
        self.socket = self._folder / "plugin.sock"
        self.token = secrets.token_hex(16)
        self._log = (self._folder / "log").open("w+b")
        self._ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "TMPDIR": str(self._folder), DESCRIPTOR: str(theirs.fileno())},
            start_new_session=True,
        )
        theirs.close()
        told = {"protocol_versions": VERSIONS, "token": self.token, "socket": str(self.socket)}
        try:
            answer = self._ready(json.dumps(told).encode() + b"\n")
        except OSError as error:
            answer = f"{error.strerror or error}, {self._ending()}"
        if answer is not None:
            words = self.last_words()
            self.end()
            line = json.dumps({**told, "token": "…"}, ensure_ascii=False)
            raise Wrong(
                f"the line {line} on descriptor ${DESCRIPTOR}",
                f"{answer}; it printed: {words}" if words else answer,
                'a line {"ready": true} when it listens on that socket',
            )

    def _ready(self, told: bytes) -> str | None:
        """What it answered where it did not get ready."""
        self._ours.sendall(told)
        self._ours.settimeout(SECONDS_TO_START)
        said = b""
        while not said.endswith(b"\n"):
            more = self._ours.recv(4096)
            if not more:
                return f"the end of the descriptor, {self._ending()}"
            said += more
        try:
            answer = json.loads(said)
        except ValueError:
            return f"no JSON: {said[:100]!r}"
        if isinstance(answer, dict) and answer.get("ready") is True:
            return None
        error = answer.get("error") if isinstance(answer, dict) else None
        return f"its error: {error}" if error else said.decode(errors="replace").strip()

    def _ending(self) -> str:
        """How it ended."""
        code = self.code(5)
        return f"exit code {code}" + (f" ({hint(self.command)})" if code == 0 else "")

    @property
    def pid(self) -> int:
        """Of the program."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def code(self, seconds: float) -> int | None:
        """Its exit code, once it has ended; None where it does not end in that time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def let_go(self) -> float:
        """Closes the descriptor, as the end of the host does; gives the moment."""
        self._ours.close()
        return time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """As kill -9 of it and of what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The last that it printed; empty where that was nothing."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-3:])

    def end(self) -> None:
        """Kills what is left of it and its children, and removes its folder."""
        self.kill()
        self.process.wait()
        self._ours.close()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
