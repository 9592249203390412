"""Where the gRPC servers listen: a port, or a Unix socket that only this user can open."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ..kernel.endpoints import for_grpc
from ..kernel.errors import UserError

if TYPE_CHECKING:
    import grpc.aio

LONGEST_SOCKET = 107
"""Bytes of a path that Linux can listen on."""


def listen(
    server: grpc.Server | grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None
) -> str:
    """Gives a server that is about to start its address, and returns it with the port that it got.

    Args:
        server: of gRPC.
        address: HOST:PORT, where port 0 is any free one, or unix:PATH.
        credentials: of TLS, for a port.

    Raises:
        UserError: it cannot be listened on, or somebody else does.
    """
    is_socket = address.startswith("unix:")
    if is_socket:
        _make_room(address.removeprefix("unix:").removeprefix("//"))
    mask = os.umask(0o177) if is_socket else None
    place = for_grpc(address)
    try:
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    except RuntimeError:
        port = 0
    finally:
        if mask is not None:
            os.umask(mask)
    if not port:
        raise UserError(f"{address} cannot be listened on; is another server there?")
    return address if is_socket else f"{address.rpartition(':')[0]}:{port}"


def _make_room(text: str) -> None:
    """Deletes a socket that nobody listens on any more, and nothing else."""
    if len(os.fsencode(text)) > LONGEST_SOCKET:
        raise UserError(f"unix:{text} is longer than {LONGEST_SOCKET} bytes; give a shorter path")
    path = Path(text)
    if not path.parent.is_dir():
        raise UserError(f"unix:{path} cannot be listened on: there is no folder {path.parent}")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"unix:{path} is a file that is no socket; give another path")
    with socket.socket(socket.AF_UNIX) as tried:
        try:
            tried.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:  # somebody else's, or of another type
            raise UserError(f"unix:{path} cannot be listened on: {error.strerror}; give another path") from None
    raise UserError(f"unix:{path}: a server listens there already")
