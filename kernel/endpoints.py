"""Where a plugin in another process is: `exec:COMMAND`, `unix:/PATH`, `grpcs://HOST:PORT`, `grpc://127.0.0.1:PORT`."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from .errors import PluginError, UserError
from .token_file import token_of

SCHEMES = ("exec", "unix", "grpc", "grpcs")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MORE = ("token_file", "ca")


@dataclass(frozen=True)
class Endpoint:
    """One plugin program or server."""

    text: str
    """As it is written in a scene."""
    scheme: Literal["exec", "unix", "grpc", "grpcs"]
    command: tuple[str, ...] = ()
    """Of `exec`."""
    address: str = ""
    """Of the others, as gRPC takes it: unix:/PATH or HOST:PORT."""
    token_file: Path | None = None
    ca: Path | None = None
    """Certificates that may have signed the server's; by default those that the machine trusts."""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, so that memory may be shared."""
        return self.scheme != "grpcs"

    def token(self) -> str:
        """What the token file holds; empty without one.

        Raises:
            PluginError: it cannot be read, or holds what no call could bring.
        """
        if self.token_file is None:
            return ""
        try:
            return token_of(self.token_file, f"--plugin {self.text}: {self.token_file}")
        except UserError as error:
            raise PluginError(str(error)) from None

    def authority(self) -> bytes | None:
        """The certificates that may have signed the server's; None: those that the machine trusts.

        Raises:
            PluginError: they cannot be read.
        """
        try:
            return None if self.ca is None else self.ca.read_bytes()
        except OSError as error:
            raise PluginError(f"--plugin {self.text}: {self.ca} cannot be read: {error.strerror}") from None

    def code(self) -> str:
        """A hash of the files of a command, which stands for its code where it says nothing of that itself."""
        files = [Path(word).read_bytes() for word in self.command if Path(word).is_file()]
        return hashlib.sha256(b"\0".join(files)).hexdigest() if files else ""


def is_endpoint(text: str) -> bool:
    """Whether a value of `plugin` is an endpoint, and not a file."""
    return text.partition(":")[0] in SCHEMES


def absolute(text: str, folder: Path) -> str:
    """The endpoint with the paths in it made absolute: those of a scene are relative to its folder.

    The first word of a command is a path where it has a slash, and so is every other word that names a file there. What
    stands behind the '?' of an address are paths.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        return f"unix:{(folder / Path(rest).expanduser()).absolute()}"
    if scheme == "exec":
        try:
            words = shlex.split(rest)
        except ValueError:
            return text  # `parse` says what is wrong with it
        paths = [("/" in word and place == 0) or (folder / word).is_file() for place, word in enumerate(words)]
        found = [
            str((folder / Path(word).expanduser()).absolute()) if is_path else word
            for word, is_path in zip(words, paths, strict=True)
        ]
        return f"exec:{shlex.join(found)}"
    address, mark, query = text.partition("?")
    if not mark:
        return text
    named = [(name, str((folder / Path(path).expanduser()).absolute())) for name, path in parse_qsl(query, True)]
    return f"{address}?{urlencode(named, safe='/')}"


def parse(text: str) -> Endpoint:
    """An endpoint as it is written in a scene, with absolute paths.

    Raises:
        PluginError: it is none, or its program or files are not there.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "exec":
        return Endpoint(text, "exec", command=_command(text, rest))
    if scheme == "unix":
        if not rest.startswith("/") or rest.startswith("//"):
            raise PluginError(f"--plugin {_named(text)}: give the path of a socket, as in unix:/run/plugin.sock")
        return Endpoint(text, "unix", address=at_socket(rest), token_file=_file(text, {}, "token_file"))
    address, more = _server(text)
    known: Literal["grpc", "grpcs"] = "grpcs" if scheme == "grpcs" else "grpc"
    token, ca = _file(text, more, "token_file"), _file(text, more, "ca") if scheme == "grpcs" else None
    return Endpoint(text, known, address=address, token_file=token, ca=ca)


def at_socket(path: str | Path) -> str:
    """The address of a Unix socket for gRPC, to which it is a URI: `%2e` or `?` in a path would be another socket."""
    return f"unix:{quote(str(path))}"


def for_grpc(address: str) -> str:
    """HOST:PORT or unix:PATH as gRPC takes it."""
    return at_socket(address.removeprefix("unix:").removeprefix("//")) if address.startswith("unix:") else address


def allows(allowed: str, text: str) -> bool:
    """Whether an endpoint is the allowed server, with no other files behind its '?'; both have absolute paths."""
    try:
        (there, known), (address, given) = _server(allowed), _server(text)
    except PluginError:
        return False
    same = allowed.partition(":")[0] == text.partition(":")[0] and there == address
    return same and given.items() <= known.items()


def _named(text: str) -> str:
    """What is written, in front of a colon; a scheme alone has its own."""
    return text.strip().removesuffix(":")


def _server(text: str) -> tuple[str, dict[str, str]]:
    """HOST:PORT of a server, and the files behind the '?' by name; raises like `parse`, but looks at no file."""
    scheme = text.partition(":")[0]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.path not in ("", "/"):
        raise PluginError(f"--plugin {_named(text)}: give a host and a port, as in {scheme}://models.example.org:7451")
    more = dict(parse_qsl(parts.query, True))
    if unknown := sorted(set(more) - set(_MORE)):
        raise PluginError(f"--plugin {text}: '{unknown[0]}' is not known behind the '?'; there are {', '.join(_MORE)}")
    if scheme == "grpc" and host not in _LOOPBACK:
        raise PluginError(
            f"--plugin {text}: without TLS only this machine is spoken to (127.0.0.1); give grpcs://{parts.netloc}"
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}", more


def _command(text: str, rest: str) -> tuple[str, ...]:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise PluginError(f"--plugin {text}: {str(error).lower()}; quote it as for a shell") from None
    if not words:
        raise PluginError(f"--plugin {_named(text)}: names no program; give one, as in exec:./my_plugin")
    program = shutil.which(words[0])
    if program is None:
        there = Path(words[0]).is_file()
        hint = f"is not executable; `chmod +x {words[0]}`" if there else "is no program that can be found"
        raise PluginError(f"--plugin {text}: {words[0]} {hint}")
    return (program, *words[1:])


def _file(text: str, given: dict[str, str], name: str) -> Path | None:
    """A file that is named behind the address, or in the environment."""
    variable = f"DEEPGEN_PLUGIN_{name.upper()}"
    named = given[name] if name in given else os.environ.get(variable) or None
    if named is None:
        return None
    path = Path(named).expanduser()
    if not path.is_file():
        raise PluginError(f"--plugin {text}: {name} {path}: no such file")
    return path
