"""The file that holds a token: what is in it, and that nobody else reads it."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError


def token_of(file: Path, where: str, *, is_ours: bool = False) -> str:
    """The token that a file holds.

    Args:
        file: with one word of printable ASCII, which is what a call can bring.
        where: begins each message, such as `--token-file FILE`.
        is_ours: it lets others in, and so it is refused where they can read or change it. One that is only brought to
            somebody may come from a store of secrets with modes of its own.

    Raises:
        UserError: it cannot be read, others can read it, or it holds no token.
    """
    try:
        if is_ours:
            refuse_shared(file, where)
        told = file.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror}") from None
    if not told or not all("!" <= letter <= "~" for letter in told):
        raise UserError(f"{where} holds no token; one word in ASCII is right")
    return told


def refuse_shared(file: Path, where: str) -> None:
    """Refuses a file that others can read or change.

    Raises:
        UserError: they can.
        OSError: it is not there.
    """
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        remedy = f"`chmod 600 {file}`, and renew what is in it"
        raise UserError(f"{where}: others may read or change it (mode {mode:o}); {remedy}")
