"""The descriptor by which a kernel that started this program tells it where to listen, and that it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ...kernel.errors import UserError
from ...kernel.wire_features import DESCRIPTOR
from .identity import agreed
from .refusals import Refused

LONGEST_LINE = 65_536


@dataclass(frozen=True)
class Told:
    """What the host said."""

    token: str
    socket: str


class Host:
    """The kernel at the other end."""

    def __init__(self) -> None:
        """Takes the descriptor out of the environment, so that no program started from here has it.

        Raises:
            UserError: it is none.
        """
        text = os.environ.pop(DESCRIPTOR)
        try:
            self._line = socket.socket(fileno=int(text))
        except (ValueError, OSError):
            raise UserError(f"{DESCRIPTOR}={text} is no descriptor of a socket; a kernel sets it") from None
        self._line.set_inheritable(False)
        self._reader = self._line.makefile("rb")
        self.clean: Callable[[], None] = lambda: None
        """What is left to do when the host is gone; it must not take long."""

    def told(self) -> Told:
        """Waits for what the host says first.

        Raises:
            UserError: it speaks another version, or says nothing of the kind.
        """
        try:
            said = json.loads(self._reader.readline(LONGEST_LINE))
            versions, token, path = list(said["protocol_versions"]), str(said["token"]), str(said["socket"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the host's first line is no JSON with protocol_versions, token and socket: {error}"
            ) from None
        try:
            agreed(versions)
        except Refused as error:
            raise UserError(str(error)) from None
        return Told(token, path)

    def ready(self) -> None:
        """Says that calls are answered."""
        self._say({"ready": True})

    def failed(self, error: Exception) -> bool:
        """Says why there will be no answers; gives whether that could be said."""
        try:
            self._say({"error": " ".join(str(error).split())})
        except OSError:
            return False
        return True

    def watch(self) -> None:
        """Ends this process at once, whatever it is doing, when the host is gone."""

        def wait() -> None:
            with contextlib.suppress(OSError):
                while self._reader.read1(LONGEST_LINE):
                    pass
            try:
                self.clean()
            finally:
                os._exit(1)

        threading.Thread(target=wait, name="host", daemon=True).start()

    def _say(self, message: dict[str, object]) -> None:
        self._line.sendall(json.dumps(message).encode() + b"\n")
