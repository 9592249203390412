"""The Jobs service: a request becomes a change of the store by the rules of jobs.py, and the conductor is woken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from deepgen.v1 import controller_pb2 as wire
from deepgen.v1.controller_pb2_grpc import JobsServicer
from deepgen.v1.job_pb2 import Job

from . import jobs
from .admission import Admission, Admitted
from .artifacts import list_artifacts, read_artifact
from .explain import Outlook
from .feed import Feed
from .filters import cursor, page_token, parse
from .jobs import Record
from .launch import RUN
from .limits import Limits, check_create, check_duration
from .logs import stream_logs
from .metrics import find_job, stream_metrics
from .refusals import Refusal, invalid
from .removal import Removal
from .security import caller, require, require_sight, shown, shown_attempt
from .store import Store, Transaction
from .submission import check_labels, check_priority, check_request, digest, insert, new_job
from .watching import HEARTBEAT_SECONDS, watch

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
PAGE, MOST = 50, 1000
"""Jobs of a page: by default, and at most."""
UPDATED = ("priority", "labels")


class Conductor(Protocol):
    """What the service needs of the loop that runs the jobs."""

    def wake(self) -> None:
        """Something has changed: look now. Safe in any thread."""
        ...

    def reason(self, job: Job) -> str:
        """Why a job waits, in a line, as far as is known without a look at the others."""
        ...

    def outlook(self, job_id: str) -> Outlook:
        """Why a job waits, with `start` in seconds since 1970. Called in a thread of its own."""
        ...


class JobsService(JobsServicer):
    """Answers the calls of one event loop; who may call is the gate's business, whose jobs are whose is ours."""

    def __init__(
        self,
        store: Store,
        state: Path,
        admission: Admission,
        conductor: Conductor,
        feed: Feed,
        limits: Limits,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._store = store
        self._state = state
        self._admission = admission
        self._conductor = conductor
        self._feed = feed
        self._limits = limits
        self._heartbeat = heartbeat
        self._removal = Removal(store, state, feed)

    async def CreateJob(self, request: wire.CreateJobRequest, context: Context) -> Job:
        """Queues a job; the same request again gets the same answer."""
        found = caller()
        if found.role == "viewer":
            raise Refusal("PERMISSION_DENIED", f"{found.user} may not create jobs: viewers change nothing")
        check_create(request, self._limits)
        check_request(request)
        admitted: Admitted | None = None
        problem: Exception | None = None
        try:
            admitted = await self._admission.admit(request.job.spec)
        except Exception as error:  # first see whether the job is there already: its scene may be gone since
            problem = error
        asked = digest(request)
        if request.validate_only:
            if admitted is None:
                assert problem is not None
                raise problem
            with self._store.reader() as reader:
                if request.job_id and reader.exists(request.job_id):
                    raise jobs.taken(request.job_id)
            return new_job(request, found.user, time.time(), admitted.name)

        made = new_job(request, found.user, time.time(), admitted.name) if admitted is not None else None

        def work(transaction: Transaction) -> Job:
            if request.request_id:
                known = transaction.replay(request.request_id, found.user, asked)
                if known is not None:
                    return known
            if admitted is None or made is None:
                assert problem is not None
                raise problem
            kept = insert(transaction, made, request, admitted.name, admitted.packed)
            if request.request_id:
                transaction.remember(request.request_id, found.user, asked, jobs.job_id(kept.name))
            return kept

        return self._shown(await self._write(work))

    async def GetJob(self, request: wire.GetJobRequest, context: Context) -> Job:
        """One job."""
        return self._shown(find_job(self._store, jobs.job_id(request.name)))

    async def ListJobs(self, request: wire.ListJobsRequest, context: Context) -> wire.ListJobsResponse:
        """A page of jobs."""
        if request.page_size < 0:
            raise invalid("page_size", f"page_size = {request.page_size} is below 0")
        query = parse(request.filter, request.order_by)
        after = cursor(query, request.page_token)

        def read() -> tuple[list[Job], str]:
            with self._store.reader() as reader:
                found, more = reader.page(query, min(request.page_size or PAGE, MOST), after)
            return found, page_token(query, more)

        found, token = await asyncio.to_thread(read)
        return wire.ListJobsResponse(jobs=map(self._shown, found), next_page_token=token)

    async def UpdateJob(self, request: wire.UpdateJobRequest, context: Context) -> Job:
        """Changes priority and labels."""
        paths = list(request.update_mask.paths) or list(UPDATED)
        if wrong := [path for path in paths if path not in UPDATED]:
            raise invalid("update_mask", f"'{wrong[0]}' of a job cannot be changed; priority and labels can")
        priority = request.job.priority if "priority" in paths else None
        labels = dict(request.job.labels) if "labels" in paths else None
        check_priority(priority or 0)
        check_labels(labels or {})

        def rule(record: Record) -> Record:
            jobs.check_etag(record.job, request.job.etag)
            return jobs.update(record, priority, labels)

        return await self._change(request.job.name, "change", rule, wire.JobEvent.UPDATED)

    async def DeleteJob(self, request: wire.DeleteJobRequest, context: Context) -> Empty:
        """Removes a job that has ended; with `force` it answers when a job that runs was cancelled and removed."""
        identity = jobs.job_id(request.name)
        job = find_job(self._store, identity)
        require(job.owner, job.name, "delete")
        if request.force and job.state not in jobs.ENDED:
            await self._change(request.name, "delete", _cancelling(request.etag))
            await self._removal.when_ended(identity, job.uid, caller().user)
        else:
            await self._removal.delete(identity, caller().user, request.etag)
        return Empty()

    async def CancelJob(self, request: wire.CancelJobRequest, context: Context) -> Job:
        """Ends a job."""
        grace: float | None = None
        if request.HasField("grace"):
            check_duration(request.grace, "grace", zero=True)
            grace = request.grace.seconds + request.grace.nanos / 1e9
        reason = self._reason(request.reason)

        def rule(record: Record) -> Record:
            return jobs.ask_cancel(record, time.time(), grace, request.checkpoint_first, reason, request.etag)

        return await self._change(request.name, "cancel", rule)

    async def SuspendJob(self, request: wire.SuspendJobRequest, context: Context) -> Job:
        """Writes a checkpoint and gives the slots back."""
        reason = self._reason(request.reason)

        def rule(record: Record) -> Record:
            return jobs.ask_suspend(record, time.time(), reason=reason, etag=request.etag)

        return await self._change(request.name, "suspend", rule)

    async def ResumeJob(self, request: wire.ResumeJobRequest, context: Context) -> Job:
        """Queues a suspended job again."""
        return await self._change(request.name, "resume", lambda record: jobs.resume(record, time.time(), request.etag))

    async def RetryJob(self, request: wire.RetryJobRequest, context: Context) -> Job:
        """Queues an ended job again."""

        def rule(record: Record) -> Record:
            return jobs.retry(record, time.time(), request.from_scratch, request.etag)

        return await self._change(request.name, "retry", rule)

    async def ExplainJob(self, request: wire.ExplainJobRequest, context: Context) -> wire.Explanation:
        """Why a job waits."""
        identity = jobs.job_id(request.name)
        job = find_job(self._store, identity)
        seen = await asyncio.to_thread(self._conductor.outlook, identity)
        answer = wire.Explanation(
            state=job.state,
            summary=seen.summary,
            behind=[f"jobs/{other}" for other in seen.behind],
            position=seen.position,
            slots_wanted=seen.slots_wanted,
            slots_free=seen.slots_free,
            slots_total=seen.slots_total,
        )
        if seen.start is not None:
            answer.predicted_start.CopyFrom(jobs.stamp(seen.start))
        return answer

    async def ListAttempts(self, request: wire.ListAttemptsRequest, context: Context) -> wire.ListAttemptsResponse:
        """All attempts of a job."""
        identity = jobs.job_id(request.parent)
        job = find_job(self._store, identity)
        with self._store.reader() as reader:
            found = reader.attempts(identity)
        return wire.ListAttemptsResponse(attempts=[shown_attempt(attempt, job.owner) for attempt in found])

    def StreamLogs(self, request: wire.StreamLogsRequest, context: Context) -> AsyncIterator[wire.LogChunk]:
        """What the processes of an attempt print."""
        return stream_logs(self._store, self._state, self._feed, request)

    def WatchEvents(self, request: wire.WatchEventsRequest, context: Context) -> AsyncIterator[wire.JobEvent]:
        """Every change of every job."""
        return watch(self._store, self._feed, request, self._heartbeat)

    def StreamMetrics(self, request: wire.StreamMetricsRequest, context: Context) -> AsyncIterator[wire.MetricPoints]:
        """Loss, scores and speeds."""
        return stream_metrics(self._store, self._state, self._feed, request)

    async def ListArtifacts(self, request: wire.ListArtifactsRequest, context: Context) -> wire.ListArtifactsResponse:
        """The files of the run folder."""
        return await asyncio.to_thread(list_artifacts, self._state, self._run(request.parent))

    def ReadArtifact(self, request: wire.ReadArtifactRequest, context: Context) -> AsyncIterator[wire.ArtifactChunk]:
        """The bytes of one of them."""
        return read_artifact(self._state, self._run(request.parent), self._feed, request)

    def _run(self, name: str) -> tuple[str, ...]:
        """The run folder of a job whose files the caller may read, below the state folder."""
        job = find_job(self._store, jobs.job_id(name))
        require_sight(job.owner, job.name, "files")
        return ("jobs", jobs.job_id(name), RUN)

    def _reason(self, text: str) -> str:
        if len(text) > self._limits.reason_characters:
            most = self._limits.reason_characters
            raise invalid("reason", f"the reason has {len(text)} characters; at most {most} are kept")
        return " ".join(text.split())

    async def _change(
        self, name: str, deed: str, rule: Callable[[Record], Record], type: Any = wire.JobEvent.CHANGED
    ) -> Job:
        """Applies a rule to a job that the caller may change."""
        identity, found = jobs.job_id(name), caller()

        def checked(record: Record) -> Record:
            require(record.job.owner, record.job.name, deed, found)
            return rule(record)

        return self._shown(
            await self._write(lambda transaction: transaction.change(identity, checked, found.user, type))
        )

    def _shown(self, job: Job) -> Job:
        """The job as the caller may see it; one that waits says for what."""
        seen = shown(job)
        if seen.state == Job.QUEUED:
            waits = self._conductor.reason(seen)
            seen.state_reason = f"{seen.state_reason}; {waits}" if seen.state_reason else waits
        return seen

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        """The result of a work when it is on the disk. A caller that goes away does not undo it."""
        future: Future[T] = self._store.write(work)
        result = await asyncio.shield(asyncio.wrap_future(future))
        self._conductor.wake()
        return result


def _cancelling(etag: str) -> Callable[[Record], Record]:
    return lambda record: jobs.ask_cancel(record, time.time(), reason="deleted on request", etag=etag)
