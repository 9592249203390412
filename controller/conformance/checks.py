"""What a check is: an id, one sentence of what must hold, and a function that raises where it does not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

Of = Literal["server", "plugin", "processor", "metric", "outputter", "model"]
"""What a check looks at: a server as a whole, each plugin, or each plugin of a kind."""


class Wrong(Exception):
    """A check failed."""

    def __init__(self, given: object, came: object, right: object) -> None:
        super().__init__(f"given {given}; came {came}; right: {right}")
        self.given, self.came, self.right = short(given), short(came), short(right)


class Skipped(Exception):
    """A check does not apply; the words say why."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    says: str
    of: Of
    needs_wire: bool
    ability: str
    body: Callable[[Any], None]

    @property
    def group(self) -> str:
        """What stands before the dot."""
        return self.name.partition(".")[0]


CHECKS: list[Check] = []
Body = Callable[[Any], None]


def check(name: str, says: str, *, of: Of, needs_wire: bool = False, ability: str = "") -> Callable[[Body], Body]:
    """Registers a check.

    Args:
        name: `group.what`.
        says: one sentence of what must hold.
        of: the function is given the `Server`, or a `Case` of each plugin that this names.
        needs_wire: it makes no sense for a class in this process.
        ability: only for plugins that have this one.
    """

    def register(body: Body) -> Body:
        assert all(known.name != name for known in CHECKS), f"{name} is there twice"
        CHECKS.append(Check(name, says, of, needs_wire or of == "server", ability, body))
        return body

    return register


def equal(given: object, came: object, right: object) -> None:
    """Refuses anything else than what is right."""
    if came != right:
        raise Wrong(given, came, right)


def one_of(given: object, came: object, right: Collection[object]) -> None:
    """Refuses anything that is not among what is right."""
    if came not in right:
        raise Wrong(given, came, " or ".join(map(str, right)))


def short(value: object, most: int = 300) -> str:
    """A value on one line."""
    text = " ".join(str(value).split()) or "nothing"
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
