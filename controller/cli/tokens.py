"""`deepgen tokens`: who may speak to the controller of this machine; add and take back tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ...kernel.errors import UserError
from ..connection import state_folder
from ..tokens import ROLES, Tokens
from .arguments import Option, help_of, read

OPTIONS = (
    Option("state", "FOLDER", "the state folder of the controller; by default ~/.local/state/deepgen"),
    Option("role", "ROLE", f"{', '.join(ROLES)}; by default user"),
    Option("expires", "TIME", "after which a new token is not taken any more, such as 30d; by default never"),
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen tokens --help` prints."""
    text = (
        "Lists who has a token. `add USER` prints a new one, which is told only once; `revoke USER` takes all of a\n"
        "user's back; a controller that runs heeds it at once. A viewer reads the states of jobs, a user has jobs of\n"
        "their own, an operator has all jobs. A client gets its token by --token-file or DEEPGEN_TOKEN_FILE."
    )
    return help_of("tokens [add USER | revoke USER] [--role ROLE] [--expires TIME]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Lists, adds or revokes."""
    given = read("tokens", arguments, OPTIONS)
    state = given.one("state")
    tokens = Tokens(Path(state).expanduser() if state else state_folder())
    wanted = given.one("role") or "user"
    if wanted not in ROLES:
        raise UserError(f"--role {wanted} is none of {', '.join(ROLES)}")
    role = ROLES[ROLES.index(wanted)]
    match given.words:
        case []:
            for known in tokens.known():
                ends = time.strftime("until %F %R", time.localtime(known.expires)) if known.expires else ""
                print(f"{known.user:<16}{known.role:<10}{known.label} {ends}".rstrip())
        case ["add", user]:
            print(tokens.add(user, role, seconds=given.seconds("expires") or 0.0))
        case ["revoke", user]:
            if not tokens.revoke(user):
                raise UserError(f"{user} has no token here; `deepgen tokens` lists who has one")
        case _:
            raise UserError("deepgen tokens takes nothing, or add USER, or revoke USER")
    return 0
