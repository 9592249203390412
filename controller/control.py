"""The control socket of a supervisor, both ends: JSON lines, each answered when it is taken in. Stdlib only.

It is reached through /proc/self/fd: the path of a socket has at most 108 bytes, and that of a folder may have more.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from .records import CONTROL

LONGEST = 4096
"""Bytes of a message."""
SECONDS = 2.0
"""How long one end waits for the other."""
TAKEN = b"taken\n"


class Control:
    """The supervisor's end, which also notices the end of children."""

    def __init__(self, folder: Path, uid: str) -> None:
        self._uid = uid
        (folder / CONTROL).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._listener.bind(f"/proc/self/fd/{directory}/{CONTROL}")
        finally:
            os.close(directory)
        (folder / CONTROL).chmod(0o600)
        self._listener.listen()
        self._listener.setblocking(False)
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._events = select.poll()
        self._events.register(self._listener, select.POLLIN)
        self._events.register(self._woken, select.POLLIN)

    def wait(self, seconds: float) -> list[dict[str, Any]]:
        """The messages that came, at the latest after so long; sooner when a signal came."""
        messages = []
        for handle, _ in self._events.poll(seconds * 1000):
            if handle == self._woken:
                os.read(self._woken, 512)
                continue
            try:
                connection, _ = self._listener.accept()
                with connection:
                    messages.append(self._take(connection))
                    connection.sendall(TAKEN)
            except (OSError, ValueError) as error:
                print(f"shim: a message was not taken: {error}", file=sys.stderr, flush=True)
        return messages

    def _take(self, connection: socket.socket) -> dict[str, Any]:
        connection.settimeout(SECONDS / 2)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] not in (0, os.geteuid()):
            raise ValueError("it is of another user")
        content = b""
        while not content.endswith(b"\n") and len(content) < LONGEST:
            if not (more := connection.recv(LONGEST)):
                raise ValueError("it was cut")
            content += more
        message = json.loads(content)
        if not isinstance(message, dict) or message.get("uid") != self._uid:
            raise ValueError("it is for another attempt")
        return message


def tell(folder: Path, message: dict[str, Any]) -> bool:
    """Sends a message to the supervisor of that folder; whether it is known to have been taken in."""
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(f"/proc/self/fd/{directory}/{CONTROL}")
            connection.sendall(json.dumps(message).encode() + b"\n")
            return connection.recv(len(TAKEN)) == TAKEN
    except OSError:  # nobody listens, yet or any more
        return False
    finally:
        os.close(directory)
