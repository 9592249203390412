"""The server as a whole: health from start to stop, ports, a Unix socket, and a client that has only reflection."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from serving import Conductor, Served, refused, serve, write_data

from deepgen.controller.admission import Admission, Roots
from deepgen.controller.server import SERVICES, Server
from deepgen.controller.store import Store
from deepgen.controller.tokens import Tokens
from deepgen.kernel.errors import UserError

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_follows_the_server(tmp_path: Path) -> None:
    async def run() -> None:
        data, state = write_data(tmp_path / "data"), tmp_path / "state"
        tokens = Tokens(state)
        tokens.open()
        store, admission = Store(state / "jobs.sqlite"), Admission(Roots((data,)))
        server = Server(store, state, tokens, admission, Conductor())
        address = await server.start()
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", *SERVICES):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == NOT_SERVING
            watch = aiter(stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0])))
            assert (await anext(watch)).status == NOT_SERVING
            await server.ready()
            assert (await anext(watch)).status == SERVING
            stopping = asyncio.ensure_future(server.stop(5))
            assert (await anext(watch)).status == NOT_SERVING
        await stopping
        await server.wait()
        admission.close()
        store.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_two_servers_do_not_share_a_port(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        other = Server(
            served.store, served.state, served.tokens, Admission(Roots()), Conductor(), address=served.address
        )
        with pytest.raises(UserError, match="cannot be listened on"):
            await other.start()
        await other.stop(0)

    serve(tmp_path, check)


def test_a_unix_socket_is_ours_alone(tmp_path: Path) -> None:
    socket = tmp_path / "socket"

    async def check(served: Served) -> None:
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        async with served.client() as client:
            assert (await client.create()).name

    serve(tmp_path, check, address=f"unix:{socket}")


def test_the_server_imports_nothing_heavy() -> None:
    code = (
        "import sys, deepgen.controller.server\n"
        "assert not {'torch', 'transformers', 'datasets', 'mlflow', 'deepspeed', 'pyarrow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Reflected:
    """A client that knows an address and a token only, as grpcurl: messages are built from what the server says."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()

    async def _ask(self, **request: Any) -> reflection_pb2.ServerReflectionResponse:
        stub = reflection_pb2_grpc.ServerReflectionStub(self._channel)
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(**request)]), metadata=self._metadata
        )
        async for answer in call:
            return answer
        raise AssertionError("no answer")

    async def services(self) -> list[str]:
        answer = await self._ask(list_services="*")
        return [service.name for service in answer.list_services_response.service]

    async def _load(self, **request: str) -> None:
        for content in (await self._ask(**request)).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(content)
            if file.name not in self._known:
                self._known.add(file.name)
                for needed in file.dependency:
                    await self._load(file_by_filename=needed)
                self._pool.Add(file)

    async def call(self, service: str, method: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        await self._load(file_containing_symbol=service)
        described = self._pool.FindServiceByName(service).methods_by_name[method]
        asked = ParseDict(request, message_factory.GetMessageClass(described.input_type)())
        answers = message_factory.GetMessageClass(described.output_type)
        kind = self._channel.unary_stream if described.server_streaming else self._channel.unary_unary
        call: Any = kind(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answers.FromString,
        )(asked, metadata=self._metadata)
        found = [answer async for answer in call] if described.server_streaming else [await call]
        return [MessageToDict(answer, descriptor_pool=self._pool) for answer in found]


def test_a_stock_client_needs_only_reflection(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            client = Reflected(channel, served.token)
            assert {*SERVICES, "grpc.health.v1.Health"} <= set(await client.services())
            jobs = "deepgen.v1.Jobs"
            spec = {"scene": "letters", "overrides": {"seed": "3"}, "timeLimit": "60s"}
            (made,) = await client.call(jobs, "CreateJob", {"jobId": "stock", "job": {"spec": spec}})
            assert (made["name"], made["state"]) == ("jobs/stock", "QUEUED")
            (listed,) = await client.call(jobs, "ListJobs", {"filter": "state = QUEUED"})
            assert listed["jobs"] == [made]
            (event,) = await client.call(jobs, "WatchEvents", {"noWait": True})
            assert (event["type"], event["job"]["name"]) == ("CREATED", "jobs/stock")
            (ended,) = await client.call(jobs, "CancelJob", {"name": "jobs/stock", "reason": "enough"})
            assert (ended["state"], ended["stateReason"]) == ("CANCELLED", "enough")
            (health,) = await client.call("grpc.health.v1.Health", "Check", {"service": jobs})
            assert health == {"status": "SERVING"}
            (plugin,) = await client.call("deepgen.v1.Catalog", "GetPlugin", {"name": "plugins/metric/acc"})
            assert plugin["kind"] == "METRIC"
            with refused("INVALID_ARGUMENT") as refusal:
                await client.call(jobs, "CreateJob", {"job": {"spec": {**spec, "overrides": {"sed": "3"}}}})
            assert refusal.told.fields == ["job.spec.overrides[sed]"]
            with refused("UNIMPLEMENTED"):
                nothing: Any = channel.unary_unary
                await nothing(f"/{jobs}/Nothing")(b"")

    serve(tmp_path, check)


def test_reflection_needs_a_token(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            with refused("UNAUTHENTICATED"):
                await Reflected(channel, "wrong").services()

    serve(tmp_path, check)


def test_a_deleted_job_is_gone_after_a_crash(tmp_path: Path) -> None:
    from deepgen.controller import removal

    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create(job_id="kept")
        folder = served.state / "jobs" / "kept"
        folder.mkdir(parents=True)
        aside = served.state / ".deleted"
        (aside / "0123.gone").mkdir(parents=True)
        folder.rename(aside / f"{made.uid}.kept")  # the transaction that did it was never kept
        removal.sweep(served.store, served.state)
        assert folder.is_dir()
        assert not list(aside.iterdir())
        with served.store.reader() as reader:
            kept = reader.job("kept")
        assert kept is not None
        assert kept.uid == made.uid

    serve(tmp_path, check)
