"""`deepgen submit SCENE [--name value …]`: gives a scene to the controller, which runs it when there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...kernel.errors import UserError
from .arguments import JSON, REMOTE, Given, Option, help_of, read
from .display import id_of, note, plain, print_json, state_of
from .scene_text import Parcel, parcel

if TYPE_CHECKING:
    from deepgen.v1.controller_pb2 import CreateJobRequest
    from deepgen.v1.job_pb2 import Job

USAGE = "submit SCENE [--num_ranks N] [--name value …] [-f] [--wait]"
OPTIONS = (
    Option("id", "ID", "the job's id; by default made from the scene's name"),
    Option("priority", "N", "jobs of greater priority start first: -1000 to 1000, by default 0"),
    Option("label", "KEY=VALUE", "a label to find the job by; may be given again", many=True),
    Option("preemptible", "", "may be suspended in favour of a job of greater priority"),
    Option("time-limit", "TIME", "the longest that all its attempts may run, such as 90s, 2h or 1h30m"),
    Option("retries", "N", "how often it is started again after a failure that may pass; by default 2"),
    Option("dry-run", "", "have the controller check everything and create nothing"),
    Option("follow", "", "show state, progress and log until the job has ended; Ctrl-C leaves it running", short="f"),
    Option("wait", "", "end when the job has ended, with its exit code"),
    JSON,
    *REMOTE,
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen submit --help` prints."""
    return help_of(
        USAGE,
        "SCENE is a name (`deepgen scenes --server`), a scene file, whose text is sent, or a model folder that is to\n"
        "predict. Settings (--learning_rate 1e-4) come before those of the scene, as in `deepgen run`.",
        OPTIONS,
    )


def main(arguments: Sequence[str]) -> int:
    """Creates the job; follows or awaits it where that is asked for."""
    given = read("submit", arguments, OPTIONS, strangers=True)
    if not given.words:
        raise UserError(f"no scene is named; usage: deepgen {USAGE}")
    reference = given.only(1, 1, "one scene")[0]
    sent = parcel(reference, given.rest)
    request = _request(given, sent)
    stays = given.has("follow") or given.has("wait")
    with given.client() as client:
        try:
            job = client.create(request)
        except UserError as error:
            # The controller knows the text and not the file; the lines are the same.
            text = str(error).replace("inline_scene:", f"{sent.file}:") if sent.file else str(error)
            raise type(error)(text) from None
        if given.as_json and not stays:
            print_json(job, lines=False)
        elif request.validate_only:
            ranks = job.spec.ranks or 1
            print(f"{id_of(job)} would be created: {ranks} rank{'s' * (ranks != 1)}, priority {job.priority}")
        elif not stays:
            _hints(job)
        if not stays or request.validate_only:
            return 0
        from .follow import follow

        if given.as_json:
            print_json(job)
        else:
            note(f"{id_of(job)} is {state_of(job)}; Ctrl-C leaves it running")
        return follow(client, job, logs=given.has("follow"), as_json=given.as_json)


def _request(given: Given, sent: Parcel) -> CreateJobRequest:
    """The request for the job that the command line describes."""
    from deepgen.v1.controller_pb2 import CreateJobRequest

    request = CreateJobRequest(job_id=given.one("id") or "", validate_only=given.has("dry-run"))
    job, spec = request.job, request.job.spec
    if sent.text:
        spec.inline_scene = sent.text
    else:
        spec.scene = sent.name
    spec.overrides.update(sent.overrides)
    spec.ranks = sent.ranks
    spec.preemptible = given.has("preemptible")
    job.priority = given.number("priority", -1000) or 0
    if job.priority > 1000:
        raise UserError(f"--priority {job.priority} is above the greatest, 1000")
    for label in given.values.get("label", []):
        key, equals, value = label.partition("=")
        if not equals or not key:
            raise UserError(f"--label {label} is not KEY=VALUE")
        job.labels[key] = value
    if (limit := given.seconds("time-limit")) is not None:
        if limit <= 0:
            raise UserError("--time-limit 0 leaves no time to run; leave it out for no limit")
        spec.time_limit.FromMilliseconds(round(limit * 1000))
    if (retries := given.number("retries")) is not None:
        spec.retry.max_attempts = retries + 1
    return request


def _hints(job: Job) -> None:
    """The new job's id for programs on standard output; what to type next beside it."""
    name = id_of(job)
    print(name, flush=True)
    note(f"{state_of(job)}{f': {plain(job.state_reason)}' if job.state_reason else ''}")
    width = len(name)
    for command, does in (
        ("logs -f", "what it prints"),
        ("show", "what is known of it"),
        ("explain", "why it waits"),
        ("cancel", "ends it"),
        ("fetch", "its files, when it has ended"),
    ):
        note(f"  deepgen {command} {name:<{width}}{' ' * (8 - len(command))}  {does}")
