"""`deepgen cancel ID …`: ends jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...kernel.errors import RunError, UserError
from .arguments import JSON, REMOTE, Given, Option, help_of, read
from .display import id_of, note, plain, print_json, state_of

if TYPE_CHECKING:
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

OPTIONS = (
    Option("grace", "TIME", "between the request to stop and the end by force, such as 30s or 2m"),
    Option("now", "", "end it at once, without a checkpoint"),
    Option("reason", "TEXT", "is kept with the job"),
    JSON,
    *REMOTE,
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen cancel --help` prints."""
    text = "The ranks are asked for a checkpoint first, from which `deepgen retry` can go on; with --now they are not."
    return help_of("cancel ID … [--grace TIME] [--now] [--reason TEXT] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Cancels each job."""
    from deepgen.v1.controller_pb2 import CancelJobRequest

    given = read("cancel", arguments, OPTIONS)
    grace, now = given.seconds("grace"), given.has("now")
    if now and grace:
        raise UserError(f"--now leaves no time, and --grace {given.one('grace')} asks for some; give one of them")
    request = CancelJobRequest(checkpoint_first=not now, reason=given.one("reason") or "")
    if grace is not None or now:
        request.grace.FromMilliseconds(round((grace or 0.0) * 1000))

    def change(client: Client, job: Job) -> Job:
        request.name = job.name
        return client.cancel(request)

    return each(given, change)


def each(given: Given, change: Callable[[Client, Job], Job]) -> int:
    """Changes each job that is named and prints it; what fails for one does not keep the others from it."""
    names = given.only(1, None, "one job id or more")
    worst = 0
    with given.client() as client:
        for name in dict.fromkeys(names):
            try:
                job = change(client, client.find(name))
            except (UserError, RunError) as error:
                if len(names) == 1:
                    raise
                note(f"deepgen: {name}: {' '.join(str(error).split())}")
                worst = max(worst, error.exit_code)
                continue
            if given.as_json:
                print_json(job)
            else:
                print(f"{id_of(job)}  {state_of(job)}  {plain(job.state_reason)}".rstrip(), flush=True)
    return worst
