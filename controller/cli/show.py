"""`deepgen show ID`: all that is known of a job and its attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .arguments import JSON, REMOTE, help_of, read
from .display import age, cut, id_of, lasted, moment, plain, print_json, progress_in_full, seconds_of, state_of, width

if TYPE_CHECKING:
    from deepgen.v1.job_pb2 import Attempt, Job

OPTIONS = (JSON, *REMOTE)
_NEXT = {
    "QUEUED": ("explain", "cancel"),
    "STARTING": ("logs -f", "cancel"),
    "RUNNING": ("logs -f", "suspend", "cancel"),
    "SUSPENDING": ("logs -f",),
    "SUSPENDED": ("resume", "cancel"),
    "SUCCEEDED": ("fetch", "logs"),
    "FAILED": ("logs", "retry"),
    "CANCELLED": ("retry",),
}


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen show --help` prints."""
    text = "Prints a job with its settings and attempts. Of the ID the beginning is enough, here and elsewhere."
    return help_of("show ID [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints the job."""
    given = read("show", arguments, OPTIONS)
    name = given.only(1, 1, "one job id")[0]
    with given.client() as client:
        job = client.find(name)
        attempts = client.attempts(job.name)
    if given.as_json:
        print_json(job)
        for attempt in attempts:
            print_json(attempt)
        return 0
    facts = [(title, text) for title, text in _facts(job) if text]
    wide = max(len(title) for title, _ in facts)
    for title, text in facts:
        print(f"{title:<{wide}}  {plain(text)}")
    for attempt in attempts:
        print("\n" + "\n".join(cut(line, width()) for line in _attempt(attempt)))
    following = _NEXT.get(state_of(job), ())
    if following:
        print("\n" + "\n".join(f"  deepgen {command} {id_of(job)}" for command in following))
    return 0


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    spec = job.spec
    yield id_of(job), f"{state_of(job)}{f': {job.state_reason}' if job.state_reason else ''}"
    yield "progress", progress_in_full(job.progress)
    at = job.progress.checkpoint_step
    yield "checkpoint", f"step {at:,}" if at else ""
    yield "owner", job.owner
    yield "scene", spec.scene or (f"inline, {len(spec.inline_scene):,} characters" if spec.inline_scene else "")
    for name in sorted(spec.overrides):
        yield f"--{name}", spec.overrides[name]
    yield "ranks", str(spec.ranks or 1)
    yield "priority", f"{job.priority}{', preemptible' if spec.preemptible else ''}"
    yield "labels", ", ".join(f"{key}={job.labels[key]}" for key in sorted(job.labels))
    yield "time limit", lasted(seconds_of_duration(job)) if spec.HasField("time_limit") else ""
    yield "created", f"{moment(job.create_time)}, {age(job.create_time)} ago"
    yield "started", moment(job.start_time) if job.HasField("start_time") else ""
    yield "ended", _ended(job)
    yield "MLflow", job.mlflow.link or job.mlflow.run_id


def seconds_of_duration(job: Job) -> float:
    """The time limit in seconds."""
    return job.spec.time_limit.seconds + job.spec.time_limit.nanos / 1e9


def _ended(job: Job) -> str:
    if not job.HasField("end_time"):
        return ""
    begin = job.start_time if job.HasField("start_time") else job.create_time
    took = lasted(seconds_of(job.end_time) - seconds_of(begin))
    return f"{moment(job.end_time)}, after {took}, exit code {job.exit_code}"


def _attempt(attempt: Attempt) -> list[str]:
    from deepgen.v1.job_pb2 import Job

    number = attempt.name.rpartition("/")[2]
    parts = [f"attempt {number}", Job.State.Name(attempt.state)]
    if attempt.cause:
        parts.append(type(attempt).Cause.Name(attempt.cause))
    if attempt.slots:
        parts.append(f"slots {', '.join(map(str, attempt.slots))}")
    if attempt.resumed_step:
        parts.append(f"went on from step {attempt.resumed_step:,}")
    if attempt.HasField("start_time") and attempt.HasField("end_time"):
        parts.append(lasted(seconds_of(attempt.end_time) - seconds_of(attempt.start_time)))
    lines = ["  ".join(parts)]
    if attempt.message:
        lines.append(f"  {plain(attempt.message)}")
    return lines + [f"    {plain(line)}" for line in attempt.evidence]
