"""Paths of Unix sockets that are to be listened on."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from ...kernel.errors import UserError

LONGEST_SOCKET = 107
"""Bytes of a path that Linux can listen on."""


def make_room(text: str) -> None:
    """Deletes a socket that nobody listens on any more, and nothing else.

    Raises:
        UserError: the path is too long, a server listens there, or it is another file.
    """
    if len(os.fsencode(text)) > LONGEST_SOCKET:
        raise UserError(f"unix:{text} is longer than {LONGEST_SOCKET} bytes; give a shorter path")
    path = Path(text)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"unix:{path} is a file that is no socket; give another path")
    with socket.socket(socket.AF_UNIX) as tried:
        try:
            tried.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise UserError(f"unix:{path}: a server listens there already")
