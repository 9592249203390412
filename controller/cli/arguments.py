"""Options of the commands that speak to a controller: declared once for parser, help and completion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernel.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ..client import Client

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Option:
    """`--name VALUE`, or a flag where `value` is empty."""

    name: str
    value: str = ""
    help: str = ""
    short: str = ""
    many: bool = False
    takes: str = ""
    """What it takes, in words; by default `value`."""


REMOTE = (
    Option("address", "HOST:PORT", "the controller; by default DEEPGEN_ADDRESS, or the one that runs on this machine"),
    Option(
        "token-file", "FILE", "holds the token; by default DEEPGEN_TOKEN_FILE, or that of this machine's controller"
    ),
    Option("ca", "FILE", "certificates that may have signed the controller's; by default DEEPGEN_CA"),
    Option("cert", "FILE", "your certificate, where the controller asks for one; by default DEEPGEN_CERT"),
    Option("key", "FILE", "the key of --cert; by default DEEPGEN_KEY"),
)
JSON = Option("output", "json", "print messages of the API, one JSON object a line", short="o")


@dataclass
class Given:
    """What stood on a command line."""

    command: str
    words: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    """The tokens from the first option on that is not declared, where such are let through."""

    def one(self, name: str) -> str | None:
        """The value of an option; the last one wins."""
        return self.values[name][-1] if name in self.values else None

    def has(self, name: str) -> bool:
        """Whether an option was given."""
        return name in self.values

    def file(self, name: str) -> Path | None:
        """The file that a flag names, which is there; None where it is not given."""
        text = self.one(name)
        if text is None:
            return None
        path = Path(text).expanduser().absolute()
        if not path.is_file():
            raise UserError(f"--{name} {text}: no such file")
        return path

    def number(self, name: str, least: int = 0) -> int | None:
        """The value as a whole number."""
        text = self.one(name)
        if text is None:
            return None
        if not re.fullmatch(r"-?\d{1,9}", text) or int(text) < least:
            raise UserError(f"--{name} {text} is not a whole number from {least} on")
        return int(text)

    def seconds(self, name: str) -> float | None:
        """The value as a length of time, such as 90s, 2h or 1h30m; a number alone is seconds."""
        text = self.one(name)
        if text is None:
            return None
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", text)
        if "".join(map("".join, parts)) == text and parts:
            return sum(float(amount) * _UNITS[unit] for amount, unit in parts)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        raise UserError(f"--{name} {text} is not a length of time; write 90s, 30m, 2h or 1h30m")

    @property
    def as_json(self) -> bool:
        """Whether `-o json` was given."""
        form = self.one("output")
        if form not in (None, "json", "text"):
            raise UserError(f"-o {form}: there is no such form; there are text and json")
        return form == "json"

    def client(self, patience: float = 3.0) -> Client:
        """A client of the controller that the options name."""
        from ..client import Client
        from ..connection import find
        from .display import note

        endpoint = find(*(self.one(option.name) for option in REMOTE))
        return Client(endpoint, patience=patience, notice=note)

    def only(self, least: int, most: int | None, what: str) -> list[str]:
        """The words, of which there must be so many."""
        if len(self.words) < least:
            raise UserError(f"deepgen {self.command} takes {what}; `deepgen {self.command} --help` tells more")
        if most is not None and len(self.words) > most:
            raise UserError(f"'{self.words[most]}' is one word too many; deepgen {self.command} takes {what}")
        return self.words


def read(command: str, arguments: Sequence[str], options: Sequence[Option], *, strangers: bool = False) -> Given:
    """The words and options of a command line.

    Args:
        strangers: leave `--name value` tokens that are not declared in `rest`, instead of refusing them.

    Raises:
        UserError: an option that is not known, or one without its value.
    """
    given = Given(command)
    by_name = {option.name: option for option in options}
    by_short = {option.short: option for option in options if option.short}
    tokens = iter(arguments)
    for token in tokens:
        is_long = token.startswith("--") and len(token) > 2
        name, equals, value = token[2:].partition("=") if is_long else ("", "", "")
        option = by_name.get(name.replace("_", "-")) if is_long else by_short.get(_short(token))
        if option is None and strangers and (is_long or given.rest):
            given.rest.append(token)
            continue
        if option is None:
            if not token.startswith("-") or token == "-":
                given.words.append(token)
                continue
            near = did_you_mean(name or token, by_name)
            known = ", ".join(f"--{option.name}" for option in options if option not in REMOTE)
            raise UserError(f"deepgen {command} does not take '{token}'{near or f'; it takes {known}'}")
        if not is_long and len(token) > 2:  # -n20, -ojson
            equals, value = "=", token[2:].removeprefix("=")
        if not option.value:
            if equals:
                raise UserError(f"'{token}': --{option.name} takes no value")
            given.values.setdefault(option.name, []).append("")
            continue
        following = value if equals else next(tokens, None)
        if following is None:
            raise UserError(f"--{option.name} has no value; it takes {option.takes or option.value}")
        given.values.setdefault(option.name, []).append(following)
    return given


def _short(token: str) -> str:
    """The letter of `-f` or `-n20`; nothing of a word or of `-1`."""
    return token[1] if len(token) > 1 and token[0] == "-" and token[1].isalpha() else ""


def help_of(usage: str, text: str, options: Sequence[Option]) -> str:
    """What `--help` of a command prints; how the controller is reached comes last."""
    own = [option for option in options if option not in REMOTE]
    lines = [f"usage: deepgen {usage}", "", text]
    for title, listed in (("", own), ("the controller:", [option for option in options if option in REMOTE])):
        if listed:
            lines += ["", *([title] if title else [])]
        for option in listed:
            name = (f"-{option.short}, " if option.short else "") + f"--{option.name} {option.value}".rstrip()
            lines.append(f"  {name:<24}  {option.help}")
    return "\n".join(lines)
