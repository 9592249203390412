"""Where the controller is and how it is spoken to: address, token and certificates of a client."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..kernel.endpoints import for_grpc
from ..kernel.errors import UserError
from ..kernel.token_file import token_of
from .tokens import TOKEN_FILE

if TYPE_CHECKING:
    import grpc

ADDRESS = "address"
"""Where the controller listens, in its state folder: the command line on the same machine looks it up here."""
DEFAULT_ADDRESS = "127.0.0.1:7450"
LARGEST_MESSAGE = 16 << 20
"""Bytes of one message that a client takes; a page of 1000 jobs with inline scenes is smaller."""
_LOOPBACK = ("localhost", "127.", "[::1]", "::1")


def state_folder() -> Path:
    """$XDG_STATE_HOME/deepgen, or ~/.local/state/deepgen: where a controller keeps its jobs, address and token."""
    given = os.environ.get("XDG_STATE_HOME", "")
    # The XDG rules say that a relative path is to be ignored.
    home = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state"
    return home / "deepgen"


@dataclass(frozen=True)
class Endpoint:
    """A controller's address and what proves who we are."""

    address: str
    """HOST:PORT or unix:PATH."""
    token: str = ""
    ca: Path | None = None
    """Certificates that may have signed the server's. TLS is used where it is given or the address is not loopback."""
    certificate: Path | None = None
    """Of this client, with its key: where the server asks for one."""
    key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether the bytes stay on this machine."""
        return self.address.startswith(("unix:", *_LOOPBACK))

    def channel(self) -> grpc.Channel:
        """An open channel; nothing is sent yet."""
        import grpc

        options: list[tuple[str, int]] = [
            # How soon a lost connection is tried again. gRPC's own pause grows to two minutes, ours to a second.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            # A peer that vanished without a word is noticed within a minute, also while a stream is silent.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
        ]
        if self.is_local:
            options.append(("grpc.enable_http_proxy", 0))
        if self.ca is None and self.is_local:
            return grpc.insecure_channel(for_grpc(self.address), options)
        credentials = grpc.ssl_channel_credentials(
            _bytes(self.ca, "--ca"), _bytes(self.key, "--key"), _bytes(self.certificate, "--cert")
        )
        return grpc.secure_channel(for_grpc(self.address), credentials, options)


def find(
    address: str | None = None,
    token_file: str | None = None,
    ca: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> Endpoint:
    """The controller that is meant: what is given, else DEEPGEN_ADDRESS and the like, else that of the state folder.

    Raises:
        UserError: there is no address, or a file that was named cannot be read or holds no token.
    """
    folder = state_folder()
    address = address or os.environ.get("DEEPGEN_ADDRESS")
    token_file = token_file or os.environ.get("DEEPGEN_TOKEN_FILE")
    ca = ca or os.environ.get("DEEPGEN_CA")
    certificate = certificate or os.environ.get("DEEPGEN_CERT")
    key = key or os.environ.get("DEEPGEN_KEY")
    if bool(certificate) != bool(key):
        raise UserError("--cert and --key belong together; give both or neither")
    if not address:
        try:
            address = (folder / ADDRESS).read_text(encoding="utf-8").strip()
        except OSError:
            address = ""
        if not address:
            raise UserError(
                f"no controller is running here (there is no {folder / 'address'}); start one with `deepgen serve`, "
                "or name one with --address HOST:PORT"
            )
    token = ""
    if token_file:
        token = token_of(Path(token_file).expanduser(), f"--token-file {token_file}")
    elif (folder / TOKEN_FILE).is_file():
        token = token_of(folder / TOKEN_FILE, str(folder / TOKEN_FILE))
    return Endpoint(address, token, *(Path(file).expanduser() if file else None for file in (ca, certificate, key)))


def _bytes(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be read: {error.strerror}") from None
