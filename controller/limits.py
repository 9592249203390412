"""How much a caller may ask: bounds on sizes and numbers of a request, and a rate for each user."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from deepgen.v1.controller_pb2 import CreateJobRequest

from .refusals import Refusal, invalid

_SETTING = re.compile(r"[A-Za-z]\w*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LONGEST = 10 * 365 * 86400
"""Seconds that a duration may have: ten years."""


@dataclass(frozen=True)
class Limits:
    """What one request and one user may ask for."""

    message_bytes: int = 1 << 20
    """Of a request."""
    answer_bytes: int = 16 << 20
    inline_scene_bytes: int = 256 << 10
    overrides: int = 200
    override_bytes: int = 16 << 10
    """Of one value."""
    reason_characters: int = 500
    calls_per_second: float = 2000.0
    """Of one user, in the long run."""
    calls_at_once: int = 4000
    """Of one user, after a pause."""
    streams: int = 200
    """Of one user, open at a time."""


def check_create(request: CreateJobRequest, limits: Limits) -> None:
    """Refuses what is too large or malformed, before anything is read for it; submission.py checks the rest."""
    if request.request_id and not _UUID.fullmatch(request.request_id):
        raise invalid(
            "request_id", f"request_id = '{request.request_id[:80]}' is not a UUID; make one anew for each job"
        )
    spec = request.job.spec
    source = spec.WhichOneof("source")
    if source is None or not getattr(spec, source):
        raise invalid("job.spec.scene", "the job names no scene; give the name of one, or its text as inline_scene")
    if (size := len(spec.inline_scene.encode())) > limits.inline_scene_bytes:
        most = limits.inline_scene_bytes
        raise invalid("job.spec.inline_scene", f"the scene has {size} bytes; at most {most} are taken")
    if len(spec.scene) > 4096:
        raise invalid("job.spec.scene", "the path of the scene has more than 4096 characters")
    if len(spec.overrides) > limits.overrides:
        text = f"{len(spec.overrides)} overrides are too many; at most {limits.overrides} are taken"
        raise invalid("job.spec.overrides", text)
    for name, value in spec.overrides.items():
        place = f"job.spec.overrides[{name[:80]}]"
        if not _SETTING.fullmatch(name) or len(name) > 80:
            raise invalid(place, f"'{name[:80]}' is no name of a setting; it is one word, such as learning_rate")
        if (size := len(value.encode())) > limits.override_bytes:
            raise invalid(place, f"--{name}: the value has {size} bytes; at most {limits.override_bytes} are taken")
    if spec.HasField("time_limit"):
        check_duration(spec.time_limit, "job.spec.time_limit")
    if spec.retry.HasField("hang_timeout"):
        check_duration(spec.retry.hang_timeout, "job.spec.retry.hang_timeout")


def check_duration(given: Duration, field: str, *, zero: bool = False) -> None:
    """Refuses a duration that is none: negative, beyond ten years, or 0 where that makes no sense."""
    seconds = given.seconds + given.nanos / 1e9
    if not (0 if zero else 1e-9) <= seconds <= _LONGEST or not 0 <= given.nanos < 10**9:
        name = field.rpartition(".")[2]
        raise invalid(field, f"{name} = {seconds:g} s is not a duration of more than nothing and at most ten years")


class Rates:
    """A token bucket for each user's calls, and a count of the streams that each holds open."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._streams: dict[str, int] = {}

    def take(self, user: str) -> None:
        """Counts a call.

        Raises:
            Refusal: the user's calls come too fast.
        """
        now = self._clock()
        left, then = self._buckets.get(user, (float(self._limits.calls_at_once), now))
        left = min(self._limits.calls_at_once, left + (now - then) * self._limits.calls_per_second)
        if left < 1:
            text = f"more than {self._limits.calls_per_second:g} calls a second by {user}; wait a moment and try again"
            raise Refusal("RESOURCE_EXHAUSTED", text, reason="RATE")
        self._buckets[user] = (left - 1, now)

    @contextmanager
    def stream(self, user: str) -> Iterator[None]:
        """Counts a stream for as long as it is open.

        Raises:
            Refusal: the user holds too many open.
        """
        if self._streams.get(user, 0) >= self._limits.streams:
            text = f"{user} holds {self._limits.streams} streams open, which is the most; close one first"
            raise Refusal("RESOURCE_EXHAUSTED", text, reason="STREAMS")
        self._streams[user] = self._streams.get(user, 0) + 1
        try:
            yield
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]
