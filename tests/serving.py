"""A real controller server in this process for tests: real store, real gRPC, and a conductor that only counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from deepgen.controller.admission import Admission, Roots
from deepgen.controller.attempts import attempt_running, start_attempt
from deepgen.controller.explain import Outlook
from deepgen.controller.jobs import Record, end, job_id
from deepgen.controller.limits import Limits
from deepgen.controller.security import Tls
from deepgen.controller.server import Server
from deepgen.controller.store import Store
from deepgen.controller.tokens import Role, Tokens
from deepgen.v1 import controller_pb2 as wire
from deepgen.v1.controller_pb2_grpc import CatalogStub, JobsStub
from deepgen.v1.job_pb2 import Attempt, Job, JobSpec

Answer = TypeVar("Answer")
SCENE = """# Letters that are words or not.
task: seq2label
model: {data}/model
train_dir: {data}/rows.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
"""


class Conductor:
    """Stands in for the loop that runs jobs: it counts how often it was woken, and foresees nothing."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    def reason(self, job: Job) -> str:
        return "next to start"

    def outlook(self, job_id: str) -> Outlook:
        return Outlook(1, ("other",), 1e9, "next to start", 1, 0, 2)


@dataclass
class Served:
    """The server and what it works with."""

    server: Server
    address: str
    store: Store
    tokens: Tokens
    conductor: Conductor
    state: Path
    data: Path
    token: str
    """Of the operator who has started it."""

    @asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncIterator[Client]:
        async with grpc.aio.insecure_channel(self.address) as channel:
            yield Client(channel, self.token if token is None else token)

    def user(self, name: str, role: Role = "user") -> str:
        return self.tokens.add(name, role)

    def change(self, name: str, rule: Callable[[Record], Record]) -> Job:
        return self.store.write(lambda transaction: transaction.change(job_id(name), rule, "controller")).result()

    def scene(self, name: str) -> str:
        """The scene that the job will run."""
        with self.store.reader() as reader:
            return reader.scene(job_id(name)) or ""

    def start(self, name: str) -> Path:
        """Puts an attempt on record as running, and gives its folder."""
        self.change(name, lambda record: start_attempt(record, [0], "uid", 1.0))
        job = self.change(name, lambda record: attempt_running(record, "uid", 2.0))
        folder = self.state / name / "attempts" / str(job.attempt)
        (folder / "ranks").mkdir(parents=True)
        return folder

    def finish(self, name: str) -> None:
        """Puts its end on record."""

        def ended(record: Record) -> Record:
            changed = record.copy()
            assert changed.attempt is not None
            changed.attempt.state, changed.attempt.cause = Job.SUCCEEDED, Attempt.COMPLETED
            changed.attempt.end_time.FromSeconds(3)
            return end(changed, Job.SUCCEEDED, "", 3.0, 0)

        self.change(name, ended)


class Client:
    """Stubs with a token."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.jobs = JobsStub(channel)
        self.catalog = CatalogStub(channel)
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def call(self, method: Any, request: Any) -> Any:
        return await method(request, metadata=self.metadata)

    def stream(self, method: Any, request: Any) -> Any:
        return method(request, metadata=self.metadata)

    async def all(self, method: Any, request: Any) -> list[Any]:
        return [message async for message in self.stream(method, request)]

    async def create(self, **fields: Any) -> Job:
        fields = {"scene": "letters", **fields}
        outer = {name: fields.pop(name) for name in ("job_id", "request_id", "validate_only") if name in fields}
        job = Job(labels=fields.pop("labels", None), priority=fields.pop("priority", 0))
        if "inline_scene" in fields:
            del fields["scene"]
        job.spec.CopyFrom(JobSpec(**fields))
        made: Job = await self.call(self.jobs.CreateJob, wire.CreateJobRequest(job=job, **outer))
        return made


def write_data(folder: Path) -> Path:
    """A scene `letters` with what it needs."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text('{"model_type": "bert"}')
    (folder / "rows.tsv").write_text("a word\t1\nxyzzy\t0\n")
    (folder / "scenes").mkdir()
    (folder / "scenes" / "letters.yaml").write_text(SCENE.format(data=folder))
    return folder


def serve(
    folder: Path,
    check: Callable[[Served], Awaitable[Answer]],
    *,
    tls: Tls | None = None,
    limits: Limits | None = None,
    heartbeat: float = 10.0,
    plugins: bool = False,
    address: str = "127.0.0.1:0",
) -> Answer:
    """Runs a check against a server whose state and data lie in a folder."""

    async def run() -> Answer:
        data = folder / "data" if (folder / "data").exists() else write_data(folder / "data")
        state = folder / "state"
        tokens = Tokens(state)
        token = tokens.open().read_text().strip()
        store = Store(state / "jobs.sqlite")
        roots = Roots((data,), (data / "scenes",), (data / "plugins",) if plugins else ())
        admission, conductor = Admission(roots), Conductor()
        server = Server(
            store, state, tokens, admission, conductor, address=address, tls=tls, limits=limits, heartbeat=heartbeat
        )
        try:
            where = await server.start()
            await server.ready()
            return await check(Served(server, where, store, tokens, conductor, state, data, token))
        finally:
            await server.stop(0.1)
            admission.close()
            store.close()

    return asyncio.run(asyncio.wait_for(run(), 60))


@dataclass
class Refusal:
    """What a refused call was told."""

    code: grpc.StatusCode
    text: str
    fields: list[str]
    reason: str
    facts: dict[str, str]


class refused:
    """A block of which the call is refused; `told` then says how."""

    def __init__(self, code: str) -> None:
        self._code = grpc.StatusCode[code]
        self._raises = pytest.raises(grpc.RpcError)
        self.told: Refusal

    def __enter__(self) -> refused:
        self._info = self._raises.__enter__()
        return self

    def __exit__(self, *problem: Any) -> bool:
        if not self._raises.__exit__(*problem):
            return False
        error: Any = self._info.value
        told = Refusal(error.code(), error.details() or "", [], "", {})
        for detail in details(error):
            if isinstance(detail, BadRequest):
                told.fields += [violation.field for violation in detail.field_violations]
            elif isinstance(detail, ErrorInfo):
                told.reason, told.facts = detail.reason, dict(detail.metadata)
        assert told.code is self._code, told
        self.told = told
        return True


def details(error: Any) -> Iterator[Any]:
    """The google.rpc details of an error."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            from google.rpc.status_pb2 import Status

            for packed in Status.FromString(value).details:
                for kind in (BadRequest, ErrorInfo):
                    message = kind()
                    if packed.Unpack(message):
                        yield message
