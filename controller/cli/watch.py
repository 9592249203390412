"""`deepgen watch [ID]`: every change of a job, or of all jobs, as it happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .arguments import JSON, REMOTE, Option, help_of, read
from .display import ENDED, cut, id_of, moment, note, plain, print_json, state_of, width

if TYPE_CHECKING:
    from deepgen.v1.controller_pb2 import JobEvent

    from ..client import Client

OPTIONS = (
    Option("after", "SEQUENCE", "begin after that event; 0 is the beginning; by default with what happens from now on"),
    Option("no-wait", "", "end with the newest event"),
    JSON,
    *REMOTE,
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen watch --help` prints."""
    text = (
        "Prints each change once and in order, also over a restart of the controller. The number in front goes with\n"
        "--after. With an ID the history of the job is printed first, and the command ends when the job has ended."
    )
    return help_of("watch [ID] [--after SEQUENCE] [--no-wait] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints the events until Ctrl-C, or until the job has ended."""
    given = read("watch", arguments, OPTIONS)
    words = given.only(0, 1, "at most one job id")
    after, wait = given.number("after"), not given.has("no-wait")
    with given.client() as client:
        job = client.find(words[0]) if words else None
        if after is None:
            after = 0 if job or not wait else _newest(client)
        # A job may have ended before and been retried: only an end that is not behind us ends the command.
        newest = job.sequence if job is not None else 0
        try:
            for event in _events(client, job.name if job else "", after, wait, given.has("after")):
                if given.as_json:
                    print_json(event)
                else:
                    print(cut(_line(event), width()), flush=True)
                if job is not None and wait and event.sequence >= newest and state_of(event.job) in ENDED:
                    return 0

        except KeyboardInterrupt:
            if job is not None:
                note(f"\nthe job goes on; `deepgen watch {id_of(job)}` comes back to it")
            raise
    return 0


def _newest(client: Client) -> int:
    """The number of the newest event: the controller tells it to who asks for what comes after the end of time."""
    from ..answers import Refused

    try:
        next(client.watch(after=(1 << 63) - 1, wait=False), None)
    except Refused as error:
        if error.reason != "AHEAD":
            raise
        return int(error.facts["newest_sequence"])
    return 0


def _events(client: Client, job: str, after: int, wait: bool, asked: bool) -> Iterator[JobEvent]:
    """The events; where nobody asked for a number, those that are still on record."""
    from ..answers import Refused

    try:
        yield from client.watch(job, after, wait)
    except Refused as error:
        if error.reason != "COMPACTED" or asked:
            raise
        first = int(error.facts["first_sequence"])
        note(f"events before {first} are no longer on record")
        yield from client.watch(job, first - 1, wait)


def _line(event: JobEvent) -> str:
    """An event on a line: when, what, of which job, by whom."""
    job = event.job
    what = type(event).Type.Name(event.type)
    what = state_of(job) if what in ("CREATED", "CHANGED") else what
    reason = plain(job.state_reason) if event.type != event.DELETED else ""
    by = f"  by {plain(event.actor)}" if event.actor and event.actor != "controller" else ""
    return f"{event.sequence:>6}  {moment(event.time)}  {id_of(job)}  {what:<10}  {reason}{by}".rstrip()
