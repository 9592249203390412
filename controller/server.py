"""The gRPC server: the services behind the gate, health and reflection, from start to stop."""

from __future__ import annotations

from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer  # pyright: ignore[reportMissingImports]
from grpc_reflection.v1alpha import reflection

from deepgen.v1 import controller_pb2
from deepgen.v1.controller_pb2_grpc import add_CatalogServicer_to_server, add_JobsServicer_to_server

from .admission import Admission
from .catalog import CatalogService
from .feed import Feed
from .limits import Limits, Rates
from .listening import listen
from .security import Gate, Tls, check_address
from .service import Conductor, JobsService
from .store import Store
from .tokens import Tokens
from .watching import HEARTBEAT_SECONDS

SERVICES = tuple(service.full_name for service in controller_pb2.DESCRIPTOR.services_by_name.values())
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """Serves one store in the running event loop; make it inside the loop."""

    def __init__(
        self,
        store: Store,
        state: Path,
        tokens: Tokens,
        admission: Admission,
        conductor: Conductor,
        *,
        address: str = "127.0.0.1:0",
        tls: Tls | None = None,
        limits: Limits | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        """Args:
            store: the jobs.
            state: the state folder, which has the folders of the jobs.
            tokens: who may call; opened already.
            admission: which scenes may run.
            conductor: runs the jobs.
            address: HOST:PORT, with port 0 for any free one, or unix:PATH.
            tls: certificates; needed wherever others could reach the address.
            limits: sizes and rates.
            heartbeat: seconds between the signs of life of an event watch.

        Raises:
            UserError: an address that others could reach without TLS, or certificates that cannot be used.
        """
        check_address(address, tls)
        limits = limits or Limits()
        self._address = address
        self._credentials = tls.credentials() if tls is not None else None
        self._feed = Feed(store)
        self._health = HealthServicer()
        gate = Gate(tokens, Rates(limits), certificates=tls is not None and tls.client_ca is not None)
        self._server = grpc.aio.server(interceptors=[gate], options=_options(limits))
        service = JobsService(store, state, admission, conductor, self._feed, limits, heartbeat)
        add_JobsServicer_to_server(service, self._server)
        add_CatalogServicer_to_server(CatalogService(admission), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> str:
        """Listens and answers; gives the address with its port. Health says NOT_SERVING until `ready`.

        Raises:
            UserError: somebody else has the address.
        """
        await self._say(NOT_SERVING)
        address = listen(self._server, self._address, self._credentials)
        self._feed.open()
        await self._server.start()
        return address

    async def ready(self) -> None:
        """Recovery is over: health says SERVING."""
        await self._say(SERVING)

    async def stop(self, grace: float = 2.0) -> None:
        """Takes no more calls; streams end with UNAVAILABLE, and other calls have `grace` seconds to end."""
        await self._health.enter_graceful_shutdown()
        self._feed.close()
        await self._server.stop(grace)

    async def wait(self) -> None:
        """Until it was stopped."""
        await self._server.wait_for_termination()

    async def _say(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.answer_bytes),
        ("grpc.max_concurrent_streams", 1000),  # of one connection
        # Two servers on one port would each get a part of the calls.
        ("grpc.so_reuseport", 0),
        # A client that has vanished is noticed, and its streams end.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may ask for a sign of life every 10 s, also while a stream is silent.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
