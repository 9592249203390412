"""The gRPC server of a model: the services behind the gate, from the first call to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer  # pyright: ignore[reportMissingImports]
from grpc_reflection.v1alpha import reflection

from deepgen.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from deepgen.v1.plugin_service_pb2_grpc import add_PluginServiceServicer_to_server
from deepgen.v1.processor_service_pb2_grpc import add_ProcessorServiceServicer_to_server

from ...kernel.wire_features import LARGEST_MESSAGE
from ..limits import Limits, Rates
from ..listening import listen
from ..plugin_server.payloads import Payloads
from ..security import Gate, Tls
from ..tokens import CLIENT, OneToken
from .asking import Asking
from .batching import Batcher, Bounds
from .calls import Calls
from .identity import Identity
from .instances import Instances
from .metrics import Metrics, MetricsPage
from .model import ServedModel
from .services import Labels, Models

SERVICES = tuple(f"deepgen.v1.{name}" for name in ("PluginService", "ModelService", "ProcessorService"))
UNLIMITED = Limits(calls_per_second=1e9, calls_at_once=10**9, streams=10**6)
"""The queue has its own limit."""
LAST_SECONDS = 0.5
"""How long what is still open has when a server stops and all is answered, such as those who watch its health."""
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True)
class Settings:
    """What `deepgen serve-model` was told."""

    address: str
    """As gRPC takes it: HOST:PORT, or unix:/PATH."""
    tls: Tls | None = None
    token: str = field(default="", repr=False)
    """Without one, whoever reaches the address may ask."""
    bounds: Bounds = field(default_factory=Bounds)
    metrics_port: int | None = None


class Server:
    """Serves one model in the running event loop; make it inside the loop."""

    def __init__(self, model: ServedModel, settings: Settings, stop: Callable[[], None]) -> None:
        """`stop` is called when a caller asks for an end.

        Raises:
            UserError: certificates that cannot be used.
        """
        self._address = settings.address
        self._credentials = settings.tls.credentials() if settings.tls is not None else None
        self._metrics = Metrics(model.name)
        tokens = OneToken(settings.token)
        anybody = None if settings.token else CLIENT
        self._model, self._gone, self._loop = model, "", asyncio.get_running_loop()
        self._batcher = Batcher(model, settings.bounds, self._answered)
        self._metrics.waiting = lambda: self._batcher.waiting
        payloads = Payloads(shares=settings.address.startswith("unix:"))
        instances = Instances(model)
        asking = Asking(model, self._batcher, self._metrics)
        self._calls = Calls(self._metrics)
        self._models = Models(asking, instances, payloads, self._calls)
        self._identity = Identity(model, instances, payloads, stop)
        self._health = HealthServicer()
        gate = Gate(tokens, Rates(UNLIMITED), anybody=anybody)
        self._server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
        add_PluginServiceServicer_to_server(self._identity, self._server)
        add_ModelServiceServicer_to_server(self._models, self._server)
        add_ProcessorServiceServicer_to_server(Labels(asking, instances, payloads, self._calls), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._port = settings.metrics_port
        self._page: MetricsPage | None = None

    @property
    def metrics_address(self) -> str:
        """Where the metrics are, if anywhere."""
        return self._page.address if self._page is not None else ""

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return self._batcher.waiting

    async def start(self) -> str:
        """Listens and answers; gives the address with its port.

        Raises:
            UserError: somebody else has the address.
        """
        if self._port is not None:
            self._page = MetricsPage(self._metrics, self._port)
        await self._say()
        address = listen(self._server, self._address, self._credentials)
        await self._server.start()
        return address

    def _answered(self, rows: int, seconds: float) -> None:
        """A batch is done, in the thread of the model."""
        self._metrics.batch(rows, seconds)
        if self._gone != self._model.predictor.gone:
            self._gone = self._model.predictor.gone
            asyncio.run_coroutine_threadsafe(self._say(), self._loop)

    async def _say(self) -> None:
        """Says to those who ask for health whether rows are answered."""
        health = health_pb2.HealthCheckResponse
        for name in ("", *SERVICES):
            await self._health.set(name, health.NOT_SERVING if self._gone else health.SERVING)

    async def stop(self, grace: float = 60.0) -> None:
        """Takes no more calls; requests have `grace` seconds to be answered, and then whatever is open ends."""
        self._identity.stopping = True
        await self._health.enter_graceful_shutdown()
        self._models.stop()
        ending = asyncio.ensure_future(self._server.stop(grace))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._calls.none(), grace)
        await self._server.stop(LAST_SECONDS)
        await ending
        await asyncio.to_thread(self._batcher.close)
        if self._page is not None:
            self._page.close()
