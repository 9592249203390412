"""`deepgen suspend ID …`: has jobs write a checkpoint and give their slots back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arguments import JSON, REMOTE, Option, help_of, read
from .cancel import each

if TYPE_CHECKING:
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

OPTIONS = (Option("reason", "TEXT", "is kept with the job"), JSON, *REMOTE)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen suspend --help` prints."""
    text = "The job goes on from its checkpoint after `deepgen resume ID`, as if nothing had happened."
    return help_of("suspend ID … [--reason TEXT] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Suspends each job."""
    from deepgen.v1.controller_pb2 import SuspendJobRequest

    given = read("suspend", arguments, OPTIONS)

    def change(client: Client, job: Job) -> Job:
        return client.suspend(SuspendJobRequest(name=job.name, reason=given.one("reason") or ""))

    return each(given, change)
