"""A new job from a request: its ID, and what is checked of it whatever the scene is (admission.py: the scene)."""

from __future__ import annotations

import functools
import hashlib
import re
import secrets
import uuid
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING

from deepgen.v1.controller_pb2 import CreateJobRequest
from deepgen.v1.job_pb2 import Job, JobSpec

from .jobs import Refused, stamp

if TYPE_CHECKING:
    from .transaction import Transaction

PRIORITIES = range(-1000, 1001)
LABELS, LABEL_LENGTH = 32, 63
MOST_RANKS = 1 << 16
MOST_ATTEMPTS = 100
_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")
_SUFFIX = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters and digits that are not taken for each other."""


def new_job(request: CreateJobRequest, owner: str, now: float, scene: str = "") -> Job:
    """A QUEUED job as a checked request wants it, ready for `insert`.

    Only `spec`, `labels` and `priority` are taken over from the request's job. Where it asks for no ID, one is drawn
    that begins with the name of the `scene`.
    """
    job = Job(
        name=f"jobs/{request.job_id or _drawn(scene or request.job.spec.scene)}",
        spec=request.job.spec,
        labels=request.job.labels,
        priority=request.job.priority,
        uid=uuid.uuid4().hex,
        owner=owner,
        state=Job.QUEUED,
        create_time=stamp(now),
    )
    job.spec.ranks = job.spec.ranks or 1
    return job


def insert(transaction: Transaction, job: Job, request: CreateJobRequest, name: str = "", scene: bytes = b"") -> Job:
    """Keeps a new job with its compressed scene. An ID that was drawn from its name and is taken is drawn again.

    Raises:
        Refused: ALREADY_EXISTS, the ID that is asked for is taken.
    """
    while True:
        try:
            return transaction.insert_job(job, job.owner, request.request_id, scene)
        except Refused as refused:
            if request.job_id or refused.reason != "ALREADY_EXISTS":
                raise
            job.name = f"jobs/{_drawn(name or job.spec.scene)}"


def check_request(request: CreateJobRequest) -> None:
    """Refused when the ID, the numbers or the labels are not well-formed."""
    if request.job_id and not _ID.fullmatch(request.job_id):
        raise Refused(
            f"job ID {request.job_id!r} must have 3 to 63 lower-case letters, digits and hyphens, "
            "with no hyphen at its ends",
            field="job_id",
        )
    check_spec(request.job.spec)
    check_priority(request.job.priority)
    check_labels(request.job.labels)


def digest(request: CreateJobRequest) -> bytes:
    """Of all that a request asks for: another request with the same `request_id` has another one."""
    asked = CreateJobRequest()
    asked.CopyFrom(request)
    asked.ClearField("request_id")
    return hashlib.sha256(asked.SerializeToString(deterministic=True)).digest()


def check_spec(spec: JobSpec) -> None:
    """Refused when the numbers are out of bounds or there is no scene."""
    if not (spec.scene or spec.inline_scene):
        raise Refused("a job needs a scene: its name, or its text as inline_scene", field="job.spec.scene")
    if not 0 <= spec.ranks <= MOST_RANKS:
        raise Refused(f"ranks is {spec.ranks}; it must be 1 to {MOST_RANKS}", field="job.spec.ranks")
    if spec.HasField("time_limit") and spec.time_limit.ToTimedelta().total_seconds() <= 0:
        raise Refused("time_limit must be longer than 0 s; leave it out for none", field="job.spec.time_limit")
    if not 0 <= spec.retry.max_attempts <= MOST_ATTEMPTS:
        raise Refused(
            f"max_attempts is {spec.retry.max_attempts}; it must be 1 to {MOST_ATTEMPTS}",
            field="job.spec.retry.max_attempts",
        )
    if spec.retry.HasField("hang_timeout") and spec.retry.hang_timeout.ToTimedelta().total_seconds() <= 0:
        raise Refused("hang_timeout must be longer than 0 s", field="job.spec.retry.hang_timeout")


def check_priority(priority: int) -> None:
    """Refused outside -1000 to 1000."""
    if priority not in PRIORITIES:
        raise Refused(f"priority is {priority}; it must be -1000 to 1000", field="job.priority")


def check_labels(labels: Mapping[str, str]) -> None:
    """Refused when there are too many, or a key or value is too long or of odd characters."""
    if len(labels) > LABELS:
        raise Refused(f"{len(labels)} labels; at most {LABELS} are kept", field="job.labels")
    for key, value in labels.items():
        field = f"job.labels[{key[:LABEL_LENGTH]}]"
        if len(key) > LABEL_LENGTH or not _KEY.fullmatch(key):
            raise Refused(
                f"label {key[:80]!r} must have 1 to {LABEL_LENGTH} letters, digits, '.', '_', '/' and '-' in between",
                field=field,
            )
        if len(value) > LABEL_LENGTH or not (value == "" or value.isprintable()):
            raise Refused(
                f"the value of label {key!r} must be at most {LABEL_LENGTH} printable characters", field=field
            )


def _drawn(scene: str) -> str:
    """An ID that is probably free: one of 28 million for each name of a scene."""
    number, letters = secrets.randbelow(len(_SUFFIX) ** 5), ""
    for _ in range(5):
        number, letter = divmod(number, len(_SUFFIX))
        letters += _SUFFIX[letter]
    return f"{_slug(scene)}-{letters}"


@functools.lru_cache(1024)
def _slug(scene: str) -> str:
    """The scene's name as the beginning of an ID, short enough for what is put behind it."""
    words = re.sub(r"[^a-z0-9]+", "-", PurePath(scene).stem.lower()).strip("-")[:50].strip("-")
    return words or "job"
