"""`deepgen jobs`: the jobs of a controller, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ...kernel.errors import UserError, did_you_mean
from .arguments import JSON, REMOTE, Given, Option, help_of, read
from .display import ENDED, age, id_of, note, plain, print_json, progress, state_of, table, width

if TYPE_CHECKING:
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

OPTIONS = (
    Option("state", "STATE", "only jobs in that state; may be given again, or as RUNNING,QUEUED", many=True),
    Option("owner", "NAME", "only jobs of that user"),
    Option("label", "KEY=VALUE", "only jobs with that label; may be given again", many=True),
    Option("filter", "TEXT", "a filter of the API, such as 'priority >= 5 AND scene = news'"),
    Option("all", "", "all there are; by default those that have not ended, and the newest of the others", short="a"),
    Option("number", "N", "at most so many (20)", short="n"),
    JSON,
    *REMOTE,
)
_NUMBER = 20
_LIVE = ("RUNNING", "STARTING", "SUSPENDING", "CANCELLING", "QUEUED", "SUSPENDED")


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen jobs --help` prints."""
    text = f"Lists the jobs, a line each. A STATE is one of {', '.join((*_LIVE, *ENDED))}."
    return help_of("jobs [--state STATE] [--owner NAME] [--label KEY=VALUE] [--all] [-n N] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints the listing."""
    given = read("jobs", arguments, OPTIONS)
    given.only(0, 0, "no words; `deepgen show ID` shows one job")
    terms = _terms(given)
    number = given.number("number", 1) or _NUMBER
    limit = None if given.has("all") and not given.has("number") else number
    with given.client() as client:
        found = _some(client, terms, limit, by_state=given.has("state") or given.has("all"))
        if given.as_json:
            for job in found if limit is None else islice(found, limit):
                print_json(job)
            return 0
        jobs = list(found)
    more = limit is not None and len(jobs) > limit
    jobs = jobs[:limit]
    if not jobs:
        note("no job fits" if terms else "there are no jobs; `deepgen submit SCENE` makes one")
        return 0
    rows = [("ID", "STATE", "RANKS", "AGE", "PROGRESS", "REASON"), *map(_row, jobs)]
    print("\n".join(table(rows, width())))
    if more:
        note(f"there are more: -n {limit * 5 if limit else 100}, or --all")
    return 0


def _terms(given: Given) -> list[str]:
    terms = []
    states = [word.strip().upper() for text in given.values.get("state", []) for word in text.split(",")]
    for state in states:
        if state not in (*_LIVE, *ENDED):
            near = did_you_mean(state, (*_LIVE, *ENDED)) or f"; there are {', '.join((*_LIVE, *ENDED))}"
            raise UserError(f"--state {state}: there is no such state{near}")
    if states:
        terms.append(choice(states))
    if (owner := given.one("owner")) is not None:
        terms.append(f"owner = {json.dumps(owner, ensure_ascii=False)}")
    for label in given.values.get("label", []):
        key, equals, value = label.partition("=")
        if not equals or not key:
            raise UserError(f"--label {label} is not KEY=VALUE")
        terms.append(f"labels.{key} = {json.dumps(value, ensure_ascii=False)}")
    if (text := given.one("filter")) is not None:
        terms.append(text)
    return terms


def choice(states: Sequence[str]) -> str:
    """The filter for jobs in one of these states."""
    return f"state = {states[0]}" if len(states) == 1 else f"state = ({' OR '.join(states)})"


def _some(client: Client, terms: list[str], limit: int | None, *, by_state: bool) -> Iterator[Job]:
    """Up to one job more than the limit, which tells that there are more."""
    left = None if limit is None else limit + 1
    for term in [""] if by_state else [choice(_LIVE), choice(ENDED)]:
        where = " AND ".join(filter(None, [*terms, term]))
        for job in client.list_jobs(where, limit=left):
            yield job
            left = None if left is None else left - 1


def _row(job: Job) -> tuple[str, ...]:
    return (
        id_of(job),
        state_of(job),
        str(job.spec.ranks or 1),
        age(job.create_time),
        progress(job.progress),
        plain(job.state_reason),
    )
