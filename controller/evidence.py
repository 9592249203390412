"""Lines that are shown to people: the ends of logs, and what is hidden in them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from . import records

LONGEST_LINE = 400
"""Characters of a line that are shown."""
TAIL = 64 << 10
"""Bytes of a log that are looked at."""
HIDDEN = "[hidden]"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|AUTH", re.IGNORECASE)
SHORTEST_SECRET = 6
_RULES = (
    # NAME=value of an environment
    (re.compile(r"\b([A-Z][A-Z0-9_]{3,}=)\S+"), rf"\1{HIDDEN}"),
    # token=…, password: …, Authorization: Bearer …
    (
        re.compile(
            r"\b([\w-]*(?:token(?!iz|s\b|_)|secret|passw\w*|api[_-]?key|authorization|credential)\w*['\"]?\s*[=:]\s*)"
            r"(?:bearer\s+|basic\s+)?\S+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # user:password@ of an address
    (re.compile(r"(\w+://[^/\s:@]*:)[^@\s/]+@"), rf"\1{HIDDEN}@"),
    # keys that are known by how they begin
    (re.compile(r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|xox[abp]-|AKIA|eyJ)[A-Za-z0-9_.-]{8,}"), HIDDEN),
)


class Secrets:
    """What must not be seen: values of the environment that are named like secrets, and what looks like one."""

    def __init__(self, folder: Path) -> None:
        attempt = records.read_record(folder / records.ATTEMPT) or {}
        environment = {**os.environ, **attempt.get("environment", {})}
        values = {v for n, v in environment.items() if SECRET_NAME.search(n) and len(v) >= SHORTEST_SECRET}
        self._values = sorted(values, key=len, reverse=True)

    def hide(self, line: str) -> str:
        """The line without them, at a length that can be read."""
        for value in self._values:
            line = line.replace(value, HIDDEN)
        for pattern, shown in _RULES:
            line = pattern.sub(shown, line)
        return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"


def tail(log: Path) -> list[str]:
    """The last lines of a log; none where there is no log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            content = file.read(TAIL)
    except OSError:
        return []
    # a progress bar writes over its own line
    lines = content.decode(errors="replace").replace("\r", "\n").split("\n")
    return lines[1:] if size > TAIL else lines
