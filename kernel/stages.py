"""What is known of a stage of a run while it goes on, and how its numbers are worded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from deepgen.v1.event_pb2 import Event

PLAIN_SECONDS = (2.0, 30.0)
"""Between two plain lines of a stage: at least the first; one at each 10 %; after the second, one anyway."""


@dataclass
class Stage:
    """What is known of a stage."""

    name: str
    total: int = 0
    unit: str = ""
    detail: str = ""
    done: int = 0
    ended: bool = False
    begin: float = field(default_factory=lambda: time.monotonic())
    last: Event.Progress = field(default_factory=Event.Progress)
    values: dict[str, float] = field(default_factory=dict)
    shown: tuple[float, int] = (0.0, 0)
    """When the last plain line was, and at which tenth."""

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1; 0 where the total is not known."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begin

    def amount(self, number: int) -> str:
        """A number with its unit."""
        unit = self.unit or ("steps" if self.name == "train" else "rows")
        return f"{number:,} {unit}" if number else ""

    def take(self, event: Event.Progress) -> None:
        """Takes in what an event says; values it does not name stay as they were."""
        self.done, self.total, self.last = event.done, event.total or self.total, event
        self.values.update(event.values)

    def is_due(self) -> bool:
        """Whether it is time for a plain line."""
        now, tenth = self.seconds, int(self.share * 10)
        since = now - self.shown[0]
        if since < PLAIN_SECONDS[0] or (tenth == self.shown[1] and since < PLAIN_SECONDS[1]):
            return False
        self.shown = (now, tenth)
        return True

    def facts(self) -> list[tuple[int, str]]:
        """(how much it is needed, text) from left to right; padded, so that the line does not jump."""
        total = f"{self.total:,}"
        facts = [(9, f"{self.done:>{len(total)},}/{total}" if self.total else self.amount(self.done))]
        if self.last.epoch:
            facts.append((4, f"epoch {self.last.epoch:.2f}"))
        for name, needed, shown in (("loss", 7, "loss"), ("learning_rate", 2, "lr"), ("grad_norm", 0, "grad")):
            if name in self.values:
                facts.append((needed, f"{shown} {number(self.values[name])}"))
        if self.last.rows_per_second:
            facts.append((5, f"{count(self.last.rows_per_second):>5} rows/s"))
        if self.last.tokens_per_second:
            facts.append((3, f"{count(self.last.tokens_per_second):>5} tokens/s"))
        if self.last.seconds_left and not self.ended:
            facts.append((8, f"{clock(self.last.seconds_left):>5} left"))
        return [fact for fact in facts if fact[1]]


def number(value: float) -> str:
    """Four digits after the point for everyday numbers, an exponent for very small and very large ones."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 or value != value else f"{value:.1e}"


def count(value: float) -> str:
    """Three digits or so: 7.5, 251, 12.1k."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def clock(seconds: float) -> str:
    """1:02:03, 2:03 or, under ten seconds, 4.5 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
