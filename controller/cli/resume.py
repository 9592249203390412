"""`deepgen resume ID …`: queues suspended jobs again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arguments import JSON, REMOTE, help_of, read
from .cancel import each

if TYPE_CHECKING:
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

OPTIONS = (JSON, *REMOTE)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen resume --help` prints."""
    text = "A job waits again for slots, and goes on from its checkpoint."
    return help_of("resume ID … [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Resumes each job."""
    from deepgen.v1.controller_pb2 import ResumeJobRequest

    def change(client: Client, job: Job) -> Job:
        return client.resume(ResumeJobRequest(name=job.name))

    return each(read("resume", arguments, OPTIONS), change)
