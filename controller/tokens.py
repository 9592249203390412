"""Who may speak to the controller: tokens with user, role and end, kept as hashes in a file that only we can read."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import pwd
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from ..kernel.errors import UserError
from ..kernel.token_file import refuse_shared

Role = Literal["viewer", "user", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
TOKEN_FILE = "token"
"""The token of whoever runs the controller, in the state folder; the command line on the same machine reads it."""
RECORD = "tokens.json"
LOCAL = "local"
"""The label of the token in TOKEN_FILE."""


@dataclass(frozen=True)
class Caller:
    """Who makes a call."""

    user: str
    role: Role

    @property
    def is_operator(self) -> bool:
        """Whether all jobs are theirs to change and to look into."""
        return self.role == "operator"

    def may_change(self, owner: str) -> bool:
        """Whether a job of that owner is theirs to change."""
        return self.is_operator or (self.role == "user" and self.user == owner)

    def may_look_into(self, owner: str) -> bool:
        """Whether they may read what a job prints and makes, and what it was given."""
        return self.is_operator or self.user == owner


@dataclass(frozen=True)
class Known:
    """A token as it is kept: not the token itself."""

    user: str
    role: Role
    sha256: str
    """A token has 256 random bits: a plain hash of it cannot be guessed back."""
    expires: float = 0.0
    """Seconds since 1970; 0 never."""
    label: str = ""


class Tokens:
    """The tokens of a state folder. A change by another process is seen at the next call."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._path = folder, folder / RECORD
        self._clock = clock
        self._known: tuple[Known, ...] = ()
        self._roles: dict[str, Role] = {}
        self._seen: tuple[int, int, int] | None = None

    def open(self) -> Path:
        """Makes the token of this machine's user at the first start; gives the file it is in.

        Raises:
            UserError: a file of tokens that others can read, or that cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / TOKEN_FILE
        if path.exists():
            refuse_shared(path, str(path))
        self._read()
        if not path.exists() or not any(known.label == LOCAL for known in self._known):
            token = self.add(_user(), "operator", label=LOCAL)
            _write(path, token + "\n")
        return path

    def add(self, user: str, role: Role, *, seconds: float = 0.0, label: str = "") -> str:
        """A new token, which is told only here; it takes the place of one with the same label.

        Args:
            user: whose it is.
            role: what they may do.
            seconds: how long it holds; 0 for ever.
            label: names it.
        """
        if not user or not user.isprintable() or len(user) > 63:
            raise UserError(f"user '{user[:80]}' is not a name of 1 to 63 printable characters")
        if role not in ROLES:
            raise UserError(f"role '{role}' is none of {', '.join(ROLES)}")
        token = "dg_" + secrets.token_urlsafe(32)
        expires = self._clock() + seconds if seconds else 0.0
        with self._changed():
            kept = tuple(known for known in self._known if not label or known.label != label)
            self._known = (*kept, Known(user, role, _hash(token), expires, label))
        return token

    def known(self) -> tuple[Known, ...]:
        """All tokens, as they are kept."""
        self._read()
        return self._known

    def revoke(self, user: str) -> int:
        """Takes all tokens of a user back; gives how many there were."""
        with self._changed():
            kept = tuple(known for known in self._known if known.user != user)
            count = len(self._known) - len(kept)
            self._known = kept
        return count

    def set_role(self, user: str, role: Role) -> None:
        """The role of somebody who comes with a certificate in place of a token."""
        with self._changed():
            self._roles[user] = role

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None when it is not known or has ended."""
        self._read()
        given, found = _hash(token), None
        for known in self._known:  # all of them: the time it takes tells nothing
            if hmac.compare_digest(known.sha256, given) and not 0 < known.expires <= self._clock():
                found = known
        return Caller(found.user, found.role) if found is not None else None

    def of_certificate(self, user: str) -> Caller:
        """The caller whom a certificate names: with the role that is on record, else as a user."""
        self._read()
        return Caller(user, self._roles.get(user, "user"))

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        """Reads, lets the caller change, and writes, while no other process does."""
        lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._seen = None
            self._read()
            yield
            content = {"tokens": [asdict(known) for known in self._known], "roles": self._roles}
            _write(self._path, json.dumps(content, indent=1) + "\n")
        finally:
            os.close(lock)

    def _read(self) -> None:
        path = self._path
        try:
            now = path.stat()
        except FileNotFoundError:
            self._known, self._roles, self._seen = (), {}, None
            return
        seen = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns)
        if seen == self._seen:
            return
        refuse_shared(path, str(path))
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self._known = tuple(Known(**entry) for entry in content["tokens"])
            self._roles = dict(content["roles"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: cannot be read as a record of tokens; move it away for a new one") from None
        self._seen = seen


class OneToken:
    """One token, for servers with one kind of caller."""

    def __init__(self, token: str) -> None:
        """Where it is empty, no token is known."""
        self._sha256 = _hash(token) if token else ""

    def caller(self, token: str) -> Caller | None:
        """Whoever has the token."""
        return CLIENT if self._sha256 and hmac.compare_digest(self._sha256, _hash(token)) else None

    def of_certificate(self, user: str) -> Caller:
        """The caller whom a certificate names."""
        return Caller(user, "user")


CLIENT = Caller("client", "user")
"""Whoever calls a server that tells no callers apart."""


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _write(path: Path, text: str) -> None:
    """Writes aside, readable for us alone from the first byte on, and renames."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    aside.replace(path)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
