"""What a person, or a program, reads of the suite: a line a check, in groups, and what is wrong below it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

from .suite import Outcome

_SIGNS = {"passed": ("✓", "32"), "failed": ("✗", "31"), "skipped": ("–", "2")}


class Report:
    """Prints outcomes as they come, and counts them."""

    def __init__(self, columns: int | None, as_json: bool = False) -> None:
        """Args: columns: of the terminal; None where nothing must be cut."""
        self._columns, self._as_json = columns, as_json
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._title = self._group = ""
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Prints an outcome."""
        self.outcomes.append(outcome)
        if self._as_json:
            print(json.dumps(_fields(outcome), ensure_ascii=False), flush=True)
            return
        title = f"{outcome.of or 'the server'}, {outcome.over}"
        if title != self._title:
            print(("\n" if self._title else "") + self._painted(title, "1"))
            self._title, self._group = title, ""
        group, _, name = outcome.check.name.partition(".")
        if group != self._group:
            print(f"  {self._painted(group, '1')}")
            self._group = group
        sign, colour = _SIGNS[outcome.result]
        text = outcome.reason if outcome.result == "skipped" else outcome.check.says
        line = f"    {sign} {name:<24}  {text}"
        line = line if self._columns is None or len(line) <= self._columns else line[: self._columns - 1] + "…"
        print(self._painted(line, colour) if outcome.result != "passed" else self._passed(line), flush=True)
        if outcome.result == "failed":
            for word, said in (("given", outcome.given), ("came", outcome.came), ("right", outcome.right)):
                print(f"        {self._painted(f'{word:<5}', '2')}  {said}")

    def close(self, seconds: float) -> None:
        """Prints the summary."""
        if self._as_json:
            return
        counts = {result: sum(one.result == result for one in self.outcomes) for result in _SIGNS}
        said = [f"{counts['passed']} check{'s' * (counts['passed'] != 1)} passed"]
        said += [self._painted(f"{counts['failed']} failed", "31")] if counts["failed"] else []
        said += [f"{counts['skipped']} skipped"] if counts["skipped"] else []
        print(f"\n{', '.join(said)} in {seconds:.1f} s")
        for name in _names(one for one in self.outcomes if one.result == "failed"):
            print(f"  {self._painted('✗', '31')} {name}")

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if any(one.result == "failed" for one in self.outcomes) else 0

    def _passed(self, line: str) -> str:
        return line.replace("✓", self._painted("✓", "32"), 1)

    def _painted(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text


def _names(outcomes: Iterable[Outcome]) -> list[str]:
    return [f"{one.check.name}  ({one.of + ', ' if one.of else ''}{one.over})" for one in outcomes]


def _fields(outcome: Outcome) -> dict[str, object]:
    told: dict[str, object] = {
        "check": outcome.check.name,
        "says": outcome.check.says,
        "plugin": outcome.of,
        "over": outcome.over,
        "result": outcome.result,
        "seconds": round(outcome.seconds, 3),
    }
    words = {name: getattr(outcome, name) for name in ("reason", "given", "came", "right")}
    return {**told, **{name: said for name, said in words.items() if said}}
