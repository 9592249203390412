"""The controller's client: its methods for Python, each stream byte by byte whatever is cut meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from deepgen.v1.controller_pb2 import (
    Artifact,
    ArtifactChunk,
    CancelJobRequest,
    CreateJobRequest,
    ExplainJobRequest,
    Explanation,
    GetJobRequest,
    JobEvent,
    ListArtifactsRequest,
    ListAttemptsRequest,
    ListJobsRequest,
    LogChunk,
    MetricPoints,
    ReadArtifactRequest,
    ResumeJobRequest,
    RetryJobRequest,
    StreamLogsRequest,
    StreamMetricsRequest,
    SuspendJobRequest,
    WatchEventsRequest,
)
from deepgen.v1.job_pb2 import Attempt, Job

from ..kernel.errors import RunError, UserError
from .answers import NotFound, Precondition
from .calls import Calls, Method
from .jobs import ENDED as ENDED

_SEARCHED = 20
"""Pages of 1000 jobs that are looked through for an abbreviated id."""
Request = TypeVar("Request", bound=Message)


class Client(Calls):
    """The methods of a controller, by job id (`ID` or `jobs/ID`)."""

    def create(self, request: CreateJobRequest) -> Job:
        """A new job; the request gets an id, so that it makes one job however often it is sent."""
        if not request.request_id:
            request.request_id = str(uuid.uuid4())
        return self.call(self.jobs.CreateJob, request)

    def get(self, job: str) -> Job:
        """The job of that id."""
        return self.call(self.jobs.GetJob, GetJobRequest(name=name_of(job)))

    def find(self, given: str) -> Job:
        """The job of that id, or the only one whose id begins so.

        Raises:
            UserError: there is none, or more than one.
        """
        try:
            return self.get(given)
        except NotFound as error:
            missing = error
        begin, found = name_of(given), list[Job]()
        for job in self.list_jobs(limit=_SEARCHED * 1000):
            if job.name.startswith(begin):
                found.append(job)
        if len(found) == 1:
            return found[0]
        if not found:
            raise missing
        some = ", ".join(id_of(job) for job in found[:4]) + (" …" if len(found) > 4 else "")
        raise UserError(f"'{given}' is the beginning of {len(found)} jobs: {some}; give more of the id")

    def list_jobs(self, where: str = "", order: str = "", limit: int | None = None) -> Iterator[Job]:
        """The jobs that fit a filter, at most `limit`, the newest first unless ordered otherwise."""
        request = ListJobsRequest(filter=where, order_by=order)
        left = limit
        while left is None or left > 0:
            request.page_size = min(1000, left or 1000)
            page = self.call(self.jobs.ListJobs, request)
            yield from page.jobs
            request.page_token = page.next_page_token
            if not request.page_token:
                return
            left = None if left is None else left - len(page.jobs)

    def attempts(self, job: str) -> list[Attempt]:
        """The attempts of a job, the first one first."""
        return list(self.call(self.jobs.ListAttempts, ListAttemptsRequest(parent=name_of(job))).attempts)

    def explain(self, job: str) -> Explanation:
        """Why a job waits."""
        return self.call(self.jobs.ExplainJob, ExplainJobRequest(name=name_of(job)))

    def cancel(self, request: CancelJobRequest) -> Job:
        """Ends a job."""
        return self._change(self.jobs.CancelJob, request, (Job.CANCELLING, Job.CANCELLED))

    def suspend(self, request: SuspendJobRequest) -> Job:
        """Has a job write a checkpoint and give its slots back."""
        return self._change(self.jobs.SuspendJob, request, (Job.SUSPENDING, Job.SUSPENDED))

    def resume(self, request: ResumeJobRequest) -> Job:
        """Queues a suspended job again."""
        return self._change(self.jobs.ResumeJob, request, (Job.QUEUED, Job.STARTING, Job.RUNNING))

    def retry(self, request: RetryJobRequest) -> Job:
        """Queues an ended job again; with its etag, a request that is sent again cannot do so twice."""
        return self._change(self.jobs.RetryJob, request, (Job.QUEUED, Job.STARTING, Job.RUNNING))

    def _change(self, method: Method[Request, Job], request: Request, wanted: Container[Job.State.ValueType]) -> Job:
        """A change that is refused only because the same request was heeded before its answer was lost is done."""
        try:
            return self.call(method, request)
        except Precondition as error:
            if getattr(error, "again", False):
                job = self.get(str(getattr(request, "name")))  # noqa: B009 - every such request has one
                if job.state in wanted:
                    return job
            raise

    def logs(self, name: str, ranks: Iterable[int] = (), follow: bool = False, tail: int = 0) -> Iterator[LogChunk]:
        """What an attempt prints ("jobs/ID" or "jobs/ID/attempts/N"): each byte once and in order, whatever is cut."""
        ends: dict[int, int] = {}
        attempt = name

        def begin() -> StreamLogsRequest:
            cursors = [StreamLogsRequest.Cursor(rank=rank, offset=offset) for rank, offset in ends.items()]
            return StreamLogsRequest(name=attempt, ranks=ranks, cursors=cursors, follow=follow, tail_bytes=tail)

        for chunk in self.stream(self.jobs.StreamLogs, begin, lambda chunk: chunk.end, endless=follow):
            attempt = chunk.attempt or attempt  # a newer attempt has other logs
            if chunk.data:
                end = ends.get(chunk.rank, chunk.offset)
                if chunk.offset > end:
                    raise RunError(f"the log of rank {chunk.rank} has a gap after byte {end}")
                chunk.data = chunk.data[end - chunk.offset :]
                chunk.offset = end
                ends[chunk.rank] = end + len(chunk.data)
            if chunk.data or chunk.end:
                yield chunk

    def watch(self, job: str = "", after: int = 0, wait: bool = True) -> Iterator[JobEvent]:
        """Every change of a job, or of all, after that sequence number; heartbeats are kept back."""
        known = after

        def begin() -> WatchEventsRequest:
            return WatchEventsRequest(after_sequence=known, job=name_of(job) if job else "", no_wait=not wait)

        for event in self.stream(self.jobs.WatchEvents, begin, None, endless=wait):
            if event.type == JobEvent.HEARTBEAT:
                known = max(known, event.sequence)
            elif event.sequence > known:
                known = event.sequence
                yield event

    def metrics(self, job: str, after: int = 0, follow: bool = False) -> Iterator[MetricPoints]:
        """Losses, scores and speeds of a job."""
        known = after

        def begin() -> StreamMetricsRequest:
            return StreamMetricsRequest(name=name_of(job), after_sequence=known, follow=follow)

        for points in self.stream(self.jobs.StreamMetrics, begin, lambda points: points.end, endless=follow):
            known = points.sequence  # smaller than before where the run was started over
            if not points.end:
                yield points

    def artifacts(self, job: str) -> list[Artifact]:
        """The files of a job's run folder."""
        return list(self.call(self.jobs.ListArtifacts, ListArtifactsRequest(parent=name_of(job))).artifacts)

    def read(self, job: str, path: str, offset: int = 0) -> Iterator[ArtifactChunk]:
        """A file of the run folder from that byte on; the last chunk has its checksum."""
        at = offset

        def begin() -> ReadArtifactRequest:
            return ReadArtifactRequest(parent=name_of(job), path=path, offset=at)

        for chunk in self.stream(self.jobs.ReadArtifact, begin, lambda chunk: bool(chunk.sha256)):
            if chunk.data and chunk.offset != at:
                raise RunError(f"{path} was sent with a gap at byte {at}")
            at += len(chunk.data)
            yield chunk


def name_of(job: str) -> str:
    """`jobs/ID` of an id or a name."""
    return job if job.startswith("jobs/") else f"jobs/{job}"


def id_of(job: Job) -> str:
    """The id of a job, which people type."""
    return job.name.removeprefix("jobs/")
