"""The gRPC server of plugins: the services behind the gate, from the first call to the last."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from deepgen.v1.metric_service_pb2_grpc import add_MetricServiceServicer_to_server
from deepgen.v1.outputter_service_pb2_grpc import add_OutputterServiceServicer_to_server
from deepgen.v1.plugin_service_pb2_grpc import add_PluginServiceServicer_to_server
from deepgen.v1.processor_service_pb2_grpc import add_ProcessorServiceServicer_to_server

from ...kernel.allocation import keep_freed_memory
from ...kernel.wire_features import LARGEST_MESSAGE
from ..listening import listen
from .gate import Gate, Work
from .identity import Identity, Plugins
from .instances import Instances, Offered
from .metrics import Metrics
from .outputters import Outputters
from .payloads import Payloads
from .processors import Processors
from .turns import LONGEST_CALL, Turns

SERVICES = tuple(
    f"deepgen.v1.{name}" for name in ("PluginService", "ProcessorService", "MetricService", "OutputterService")
)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
THREADS = 64
"""Calls at one time; a call to an instance that is busy waits in one."""
STEP = 1.0
"""Seconds after which whoever watches its health is told of a change."""
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.so_reuseport", 0),
    # A whole batch is on its way before the first of it is acknowledged.
    ("grpc.http2.lookahead_bytes", 4 << 20),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_frame_size", 1 << 20),
    # A host that has vanished is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class Server:
    """Serves plugins until it is told to end."""

    def __init__(
        self,
        offered: Offered,
        identity: Identity,
        *,
        token: str = "",
        shares_memory: bool = True,
        longest_call: float = LONGEST_CALL,
    ) -> None:
        """What is served, and what every call must bring; `shares_memory` where hosts are on this machine.

        A call that takes longer than `longest_call` seconds hangs.
        """
        # a signal may reach any thread, and only a descriptor wakes the main thread then
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._signals = 0
        self._work = Work()
        self._instances = Instances(offered, Turns(longest_call))
        payloads = Payloads(shares=shares_memory)
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, "call"), interceptors=[Gate(token, self._work)], options=OPTIONS
        )
        plugins = Plugins(identity, offered, self._instances, payloads, self._work, self.end)
        add_PluginServiceServicer_to_server(plugins, self._server)
        add_ProcessorServiceServicer_to_server(Processors(self._instances, payloads), self._server)
        add_MetricServiceServicer_to_server(Metrics(self._instances, payloads), self._server)
        add_OutputterServiceServicer_to_server(Outputters(self._instances, payloads), self._server)
        self._health = _add_health_and_reflection(self._server, plugins.trouble)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> str:
        """Answers on HOST:PORT or unix:PATH from now on; returns it with the port that it got.

        Raises:
            UserError: it cannot be listened on, or somebody else does.
        """
        found = listen(self._server, address, credentials)
        self._server.start()
        return found

    def end(self) -> None:
        """Has `run` come to its end."""
        with contextlib.suppress(BlockingIOError):  # told so very often
            os.write(self._wake, b"\0")

    def run(self, ready: Callable[[], None]) -> None:
        """Until it is told to end by `Shutdown`, SIGTERM or Ctrl-C; then what is worked on is finished.

        A second signal ends it at once. `ready` is called when all this holds.
        """
        keep_freed_memory()
        for number in SIGNALS:
            signal.signal(number, self._signalled)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        ready()
        while self._told() not in (0, *SIGNALS):  # a plugin may have handlers of its own
            pass
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        hangs = self._work.drain()
        self._server.stop(1.0).wait(2.0)
        self.clean()
        if hangs:  # what nobody waits for is not waited for
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def clean(self) -> None:
        """Deletes what lies on the disk."""
        self._instances.close()

    def _told(self) -> int:
        """The next byte of those who wake this thread; meanwhile, whoever watches its health is told."""
        waiting = select.poll()
        waiting.register(self._woken, select.POLLIN)
        while not waiting.poll(STEP * 1000):
            if self._health is not None:
                self._health.look()
        return os.read(self._woken, 1)[0]

    def _signalled(self, number: int, frame: Any) -> None:
        if self._signals:
            self.clean()
            os._exit(128 + number)
        self._signals += 1


def _add_health_and_reflection(server: grpc.Server, trouble: Callable[[], str]) -> Any:
    """The two services of gRPC's own, where they are installed; gives that of health."""
    try:
        from grpc_health.v1 import health, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection

        from .health import Health
    except ImportError:  # in an environment of the plugin's own
        return None
    servicer = Health(("", *SERVICES), trouble)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return servicer
