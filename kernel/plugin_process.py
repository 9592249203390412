"""A plugin's program that this process has started: how it is told its token, gets ready, and ends."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .endpoints import Endpoint
from .errors import PluginError
from .sharing import Shared
from .wire_features import DESCRIPTOR, VERSIONS

SECONDS_TO_GET_READY = 60.0
SECONDS_TO_END = 5.0
"""After it was asked to."""


SOCKET = "plugin.sock"
LONGEST_SOCKET = 107
"""Bytes of a path that Linux can listen on."""


class PluginProcess:
    """The program under its keeper, which ends it when this process is gone, however that went."""

    def __init__(self, endpoint: Endpoint, meeting: Path | None = None) -> None:
        """Starts it and waits until it listens; the folder `meeting` goes with it, where it tells of no other program.

        Raises:
            PluginError: it ended, or did not get ready.
        """
        self._endpoint = endpoint
        folder = _folder()
        self.shared = Shared(str(folder / SOCKET), secrets.token_hex(16))
        life, self._life = os.pipe()
        self._ending = threading.Lock()
        self._ours, theirs = socket.socketpair()
        keeper = Path(__file__).with_name("keeper.py")
        kept = [sys.executable, "-I", "-S", str(keeper), str(life), str(folder), str(meeting or ""), "--"]
        self._process = subprocess.Popen(
            [*kept, *endpoint.command],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what it prints goes where this process says things
            pass_fds=(life, theirs.fileno()),
            env={**os.environ, "TMPDIR": _temporary(folder), DESCRIPTOR: str(theirs.fileno())},
            start_new_session=True,
        )
        os.close(life)
        theirs.close()
        told = {"protocol_versions": VERSIONS, "token": self.shared.token, "socket": self.shared.socket}
        try:
            self._ours.sendall(json.dumps(told).encode() + b"\n")
            self._ours.settimeout(SECONDS_TO_GET_READY)
            answer = self._line()
        except TimeoutError:
            self.kill()
            raise PluginError(
                f"--plugin {endpoint.text}: was not ready within {SECONDS_TO_GET_READY:g} seconds; it has to listen on "
                f"the socket it is told on descriptor ${DESCRIPTOR}, and say so there"
            ) from None
        except OSError:
            answer = {}
        if "ready" not in answer:
            why = answer.get("error") or f"ended before it was ready, by {self.cause()}; {self._hint()}"
            self.kill()
            raise PluginError(f"--plugin {endpoint.text}: {why}")

    def _hint(self) -> str:
        """Where a program that was never ready has said why; one that ended well did not know that it is a plugin."""
        return "what it printed, if anything, is above" if self._process.returncode else hint(self._endpoint.command)

    def _line(self) -> dict[str, str]:
        """What it says; nothing where it is gone."""
        said = b""
        while not said.endswith(b"\n"):
            more = self._ours.recv(4096)
            if not more:
                return {}
            said += more
        try:
            answer = json.loads(said)
        except ValueError:
            return {"error": f"said {said[:200]!r} where it should say that it is ready"}
        return answer if isinstance(answer, dict) else {}

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the program itself, under its keeper."""
        keeper = self._process.pid
        return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text(encoding="ascii").split()[0])

    def cause(self) -> str:
        """How it ended, in words; waits a moment where it is about to."""
        try:
            code = self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            return "itself: it closed its socket"
        number = -code if code < 0 else code - 128
        if number <= 0:
            return f"itself, with exit code {code}"
        try:
            name = signal.Signals(number).name
        except ValueError:
            return f"itself, with exit code {code}"
        return name + ("; the machine may be out of memory" if number == signal.SIGKILL else "")

    def end(self) -> None:
        """Waits for the end that it was asked for, and kills what is left."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        self.kill()

    def kill(self) -> None:
        """Ends it at once; several threads may find it necessary."""
        with self._ending:
            if self._life >= 0:
                os.close(self._life)  # the keeper sees it
                self._life = -1
        self._ours.close()
        self._process.wait()


def hint(command: Sequence[str]) -> str:
    """What is right where a program ends by itself and says nothing."""
    file = next((word for word in command[1:] if not word.startswith("-")), "")
    if Path(command[0]).name.startswith("python") and file.endswith(".py"):
        return f"a Python file of plugins is started as exec:deepgen plugin serve {shlex.quote(file)}"
    return f"a plugin's program listens on the socket that it is told on descriptor ${DESCRIPTOR}, until it is ended"


def _folder() -> Path:
    """A folder for the socket, in the temporary folder, or in /tmp where that one's name is too long."""
    folder = Path(tempfile.mkdtemp(prefix="deepgen-plugin-"))
    if len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="deepgen-plugin-", dir="/tmp"))


def _temporary(folder: Path) -> str:
    """The program's temporary folder: what it leaves when it is killed goes with its own folder."""
    usual = tempfile.gettempdir()
    return str(folder) if folder.is_relative_to(usual) else usual
