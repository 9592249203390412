"""Who gets in: tokens, roles, certificates, rates; and where the server may listen."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from certificates import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import Client, Served, refused, serve

from deepgen.controller.answers import Unreachable
from deepgen.controller.client import Client as OurClient
from deepgen.controller.connection import Endpoint
from deepgen.controller.limits import Limits, Rates
from deepgen.controller.refusals import Refusal, status
from deepgen.controller.security import Tls, check_address
from deepgen.controller.tokens import Caller, Tokens
from deepgen.kernel.errors import UserError
from deepgen.v1 import controller_pb2 as wire
from deepgen.v1.job_pb2 import Job


def test_the_first_start_makes_a_token_that_only_we_can_read(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "state")
    path = tokens.open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state" / "tokens.json").stat().st_mode) == 0o600
    token = path.read_text().strip()
    found = tokens.caller(token)
    assert found is not None
    assert found.role == "operator"
    assert token not in (tmp_path / "state" / "tokens.json").read_text()
    assert Tokens(tmp_path / "state").open().read_text().strip() == token
    path.unlink()
    Tokens(tmp_path / "state").open()
    assert tokens.caller(token) is None
    assert tokens.caller(path.read_text().strip()) == found


def test_tokens_expire_and_are_taken_back(tmp_path: Path) -> None:
    now = [1000.0]
    tokens = Tokens(tmp_path, clock=lambda: now[0])
    token = tokens.add("ada", "user", seconds=60)
    other = Tokens(tmp_path, clock=lambda: now[0])
    assert other.caller(token) == Caller("ada", "user")
    now[0] += 60
    assert other.caller(token) is None
    lasting = tokens.add("bob", "viewer")
    assert other.caller(lasting) == Caller("bob", "viewer")
    assert tokens.revoke("bob") == 1
    assert other.caller(lasting) is None
    for wrong in ("", "x" * 64, "a\nb"):
        with pytest.raises(UserError):
            tokens.add(wrong, "user")
    with pytest.raises(UserError):
        tokens.add("ada", "admin")  # type: ignore[arg-type]


def test_files_of_tokens_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = Tokens(tmp_path).open()
    path.chmod(0o640)
    with pytest.raises(UserError, match="others may read"):
        Tokens(tmp_path).open()
    path.chmod(0o600)
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": [{"role": "operator"}]}))
    with pytest.raises(UserError, match="cannot be read as a record of tokens"):
        Tokens(tmp_path).open()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:7450", "localhost:7450", "unix:/tmp/x"])
def test_this_machine_needs_no_tls(address: str) -> None:
    check_address(address, None)


@pytest.mark.parametrize("address", ["0.0.0.0:7450", "[::]:7450", "10.0.0.1:1", "controller:7450", "*:1"])
def test_other_addresses_need_tls(address: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*needs TLS[^\n]*$"):
        check_address(address, None)


@pytest.mark.parametrize("address", ["", "localhost", ":7450", "localhost:70000", "localhost:x"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UserError, match="is not HOST:PORT"):
        check_address(address, None)


def test_every_method_asks_who_calls(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        (ending,) = (served.tokens.add("ada", "user", seconds=1e-6),)
        for token, reason in (("", "NO_TOKEN"), ("dg_wrong", "TOKEN"), (ending, "TOKEN"), ("x" * 7000, "TOKEN")):
            async with served.client(token) as client:
                for method in (client.jobs.GetJob, client.catalog.ListScenes):
                    with refused("UNAUTHENTICATED") as refusal:
                        await client.call(
                            method, wire.GetJobRequest() if "Get" in str(method) else wire.ListScenesRequest()
                        )
                    assert refusal.told.reason == reason
                for stream, request in (
                    (client.jobs.WatchEvents, wire.WatchEventsRequest()),
                    (client.jobs.StreamLogs, wire.StreamLogsRequest()),
                    (client.jobs.ReadArtifact, wire.ReadArtifactRequest()),
                ):
                    with refused("UNAUTHENTICATED") as refusal:
                        await client.all(stream, request)
                    assert refusal.told.reason == reason
                    assert token not in refusal.told.text or not token

    serve(tmp_path, check)


def test_every_method_of_the_services_is_behind_the_gate(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            for service in wire.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    path = f"/{service.full_name}/{method.name}"
                    kind: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
                    with refused("UNAUTHENTICATED"):
                        call = kind(path)(b"")
                        assert not [message async for message in call] if method.server_streaming else await call

    serve(tmp_path, check)


def test_too_many_calls_are_refused(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client, served.client(served.user("ada")) as other:
            for _ in range(3):
                await client.call(client.jobs.ListJobs, wire.ListJobsRequest())
            with refused("RESOURCE_EXHAUSTED") as refusal:
                await client.call(client.jobs.ListJobs, wire.ListJobsRequest())
            assert refusal.told.reason == "RATE"
            watch = other.stream(other.jobs.WatchEvents, wire.WatchEventsRequest())
            await watch.read()
            with refused("RESOURCE_EXHAUSTED") as refusal:
                await other.all(other.jobs.WatchEvents, wire.WatchEventsRequest())
            assert refusal.told.reason == "STREAMS"
            watch.cancel()

    serve(tmp_path, check, limits=Limits(calls_per_second=1e-9, calls_at_once=3, streams=1))


def test_the_bucket_fills_again() -> None:
    now = [0.0]
    rates = Rates(Limits(calls_per_second=2, calls_at_once=3), clock=lambda: now[0])
    for _ in range(3):
        rates.take("ada")
    rates.take("bob")
    with pytest.raises(Refusal):
        rates.take("ada")
    now[0] = 0.5
    rates.take("ada")
    with pytest.raises(Refusal):
        rates.take("ada")


def test_a_large_message_is_refused(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            with refused("RESOURCE_EXHAUSTED"):
                await client.create(inline_scene="x" * (2 << 20))

    serve(tmp_path, check)


def test_our_own_failures_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told = status(ValueError("the password is 17"))
    assert told.code == grpc.StatusCode.INTERNAL.value[0]
    assert "17" not in str(told.message).replace(told.message.rpartition(" ")[2], "")
    assert told.message.rpartition(" ")[2] in caplog.text
    long = status(Refusal("INVALID_ARGUMENT", "ü" * 100_000, fields=[("f" * 1000, "x")] * 1000))
    assert long.ByteSize() <= 4096


async def _list(served: Served, credentials: grpc.ChannelCredentials, token: str) -> Any:
    async with grpc.aio.secure_channel(served.address, credentials) as channel:
        client = Client(channel, token)
        return await client.call(client.jobs.ListJobs, wire.ListJobsRequest())


def test_tls_and_a_token(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    certificate, key = authority.issue("server")

    async def check(served: Served) -> None:
        trusted = grpc.ssl_channel_credentials((tmp_path / "ca" / "authority.pem").read_bytes())
        await _list(served, trusted, served.token)
        with refused("UNAUTHENTICATED"):
            await _list(served, trusted, "")
        with refused("UNAVAILABLE"):  # without TLS
            async with served.client() as client:
                await client.call(client.jobs.ListJobs, wire.ListJobsRequest())

    serve(tmp_path, check, tls=Tls(certificate, key), address="127.0.0.1:0")


def test_our_client_speaks_tls_and_says_what_is_missing(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    certificate, key = authority.issue("server")
    root = tmp_path / "ca" / "authority.pem"

    async def check(served: Served) -> None:
        def ask(*files: Path) -> list[Job]:
            with OurClient(Endpoint(served.address, served.token, *files), patience=0.5) as client:
                return list(client.list_jobs())

        assert await asyncio.to_thread(ask, root, *authority.issue("ada")) == []
        for files in ((), (root,)):
            with pytest.raises(Unreachable, match=r"with TLS wants --ca, and .* --cert and --key too|--ca names"):
                await asyncio.to_thread(ask, *files)

    serve(tmp_path, check, tls=Tls(certificate, key, root), address="127.0.0.1:0")


def test_a_certificate_in_place_of_a_token(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    stranger = Authority.make(tmp_path / "other")
    certificate, key = authority.issue("server")
    root = (tmp_path / "ca" / "authority.pem").read_bytes()

    def of(pair: tuple[Path, Path]) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(root, pair[1].read_bytes(), pair[0].read_bytes())

    async def check(served: Served) -> None:
        ada = of(authority.issue("ada"))
        async with grpc.aio.secure_channel(served.address, ada) as channel:
            client = Client(channel, "")
            made = await client.create()
            assert made.owner == "ada"
            served.tokens.set_role("ada", "viewer")
            with refused("PERMISSION_DENIED"):
                await client.create()
        await _list(served, ada, served.token)  # a token goes before the certificate
        for stranger_s in (grpc.ssl_channel_credentials(root), of(stranger.issue("ada"))):
            with refused("UNAVAILABLE"):
                await _list(served, stranger_s, served.token)

    serve(tmp_path, check, tls=Tls(certificate, key, tmp_path / "ca" / "authority.pem"))


def test_certificates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("hello")
    with pytest.raises(UserError, match="holds no private key in PEM form"):
        Tls(tmp_path / "x.pem", tmp_path / "x.pem").credentials()
    with pytest.raises(UserError, match="cannot be read"):
        Tls(tmp_path / "y.pem", tmp_path / "y.pem").credentials()
    authority = Authority.make(tmp_path / "ca")
    (certificate, _), (_, key) = authority.issue("one"), authority.issue("other")
    with pytest.raises(UserError, match=r"other.key is not the key of .*one.pem"):
        Tls(certificate, key).credentials()


def test_anybody_may_ask_for_health(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    serve(tmp_path, check)
