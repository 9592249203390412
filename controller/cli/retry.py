"""`deepgen retry ID …`: queues ended jobs again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arguments import JSON, REMOTE, Option, help_of, read
from .cancel import each

if TYPE_CHECKING:
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

OPTIONS = (Option("from-scratch", "", "begin anew, instead of from the newest checkpoint"), JSON, *REMOTE)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen retry --help` prints."""
    text = "Queues a job that has ended again; it goes on from its newest checkpoint."
    return help_of("retry ID … [--from-scratch] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Retries each job."""
    from deepgen.v1.controller_pb2 import RetryJobRequest

    given = read("retry", arguments, OPTIONS)

    def change(client: Client, job: Job) -> Job:
        # The etag keeps a request that is sent again from retrying a job that has failed once more meanwhile.
        return client.retry(RetryJobRequest(name=job.name, etag=job.etag, from_scratch=given.has("from-scratch")))

    return each(given, change)
