"""Where a server of the command line listens, and who may call it: the same options for plugins and for models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernel.errors import UserError
from ...kernel.token_file import token_of
from .arguments import Given, Option

if TYPE_CHECKING:
    from ..security import Tls

OPTIONS = (
    Option("token-file", "FILE", "holds the token that every call must bring; grpcs:// needs one"),
    Option("tls-cert", "FILE", "the certificate of grpcs://"),
    Option("tls-key", "FILE", "the key of --tls-cert"),
)
OPEN_TO_ALL = "anybody on this machine may call it; --token-file keeps others out"


@dataclass(frozen=True)
class Place:
    """An address with what guards it."""

    scheme: str
    """`unix`, `grpc` or `grpcs`."""
    address: str
    """As gRPC takes it: HOST:PORT, or unix:/PATH."""
    tls: Tls | None
    token_file: Path | None

    @property
    def is_open_to_all(self) -> bool:
        """Whether everybody on this machine may call; a socket is its user's alone."""
        return self.scheme != "unix" and self.token_file is None

    def token(self) -> str:
        """What every call must bring; empty without a file.

        Raises:
            UserError: it cannot be read, others can read it, or it holds no token.
        """
        return token_of(self.token_file, f"--token-file {self.token_file}", is_ours=True) if self.token_file else ""

    def shown(self, address: str) -> str:
        """As a scene names it, with the port that was found free."""
        return address if self.scheme == "unix" else f"{self.scheme}://{address}"


def place_of(given: Given, text: str) -> Place:
    """What `--listen` and the options beside it say.

    Raises:
        UserError: no such address, or one that is not guarded as it must be.
    """
    scheme, colon, rest = text.partition(":")
    is_socket = scheme == "unix"
    if not colon or not rest or scheme not in ("unix", "grpc", "grpcs") or not (is_socket or rest.startswith("//")):
        raise UserError(f"--listen {text}: give unix:/PATH, grpcs://HOST:PORT or grpc://127.0.0.1:PORT")
    certificate, key, token = (given.file(name) for name in ("tls-cert", "tls-key", "token-file"))
    is_secure = scheme == "grpcs"
    if is_secure != (certificate is not None) or is_secure != (key is not None):
        raise UserError("--tls-cert and --tls-key belong to --listen grpcs://HOST:PORT, which needs both")
    if is_secure and token is None:
        raise UserError(f"--listen {text} can be reached from other machines; give --token-file")
    if is_socket:
        return Place(scheme, f"unix:{Path(rest).absolute()}", None, token)
    from ..security import Tls, check_address

    tls = Tls(certificate, key) if certificate is not None and key is not None else None
    check_address(rest[2:], tls)
    return Place(scheme, rest[2:], tls, token)
