"""Plugin servers for tests: a real process, started as a kernel starts one, and raw stubs over a real socket."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa

from deepgen.controller.processes import Process
from deepgen.kernel import payload
from deepgen.v1 import payload_pb2, plugin_pb2
from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1.metric_service_pb2_grpc import MetricServiceStub
from deepgen.v1.outputter_service_pb2_grpc import OutputterServiceStub
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceStub
from deepgen.v1.processor_service_pb2_grpc import ProcessorServiceStub

TOKEN = "a-token-of-the-test"
COMMAND = (sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve")
OPTIONS = (
    ("grpc.max_receive_message_length", (64 << 20) + (64 << 10)),
    ("grpc.max_send_message_length", (64 << 20) + (64 << 10)),
    ("grpc.http2.lookahead_bytes", 4 << 20),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_frame_size", 1 << 20),
)
KINDS = {
    "processor": plugin_pb2.PluginDescriptor.PROCESSOR,
    "model": plugin_pb2.PluginDescriptor.MODEL,
    "metric": plugin_pb2.PluginDescriptor.METRIC,
    "outputter": plugin_pb2.PluginDescriptor.OUTPUTTER,
    "trainer": plugin_pb2.PluginDescriptor.TRAINER,
}


class Stubs:
    """The services of one server."""

    def __init__(self, channel: grpc.Channel, token: str = TOKEN) -> None:
        self.plugin = _Service(PluginServiceStub(channel), token)
        self.processor = _Service(ProcessorServiceStub(channel), token)
        self.metric = _Service(MetricServiceStub(channel), token)
        self.outputter = _Service(OutputterServiceStub(channel), token)

    def configure(self, name: str, kind: str, plugin: str, **more: Any) -> wire.ConfigureResponse:
        """Makes an instance; options are values."""
        options = {key: json.dumps(value) for key, value in more.pop("options", {}).items()}
        request = wire.ConfigureRequest(instance=name, kind=KINDS[kind], name=plugin, options=options, **more)
        answer: wire.ConfigureResponse = self.plugin.Configure(request)
        return answer


class _Service:
    """A stub whose calls bring the token."""

    def __init__(self, stub: Any, token: str) -> None:
        self._stub, self._metadata = stub, (("authorization", f"Bearer {token}"),) if token else ()

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._stub, method)
        bound = functools.partial(call, metadata=self._metadata)
        bound.future = functools.partial(getattr(call, "future", call), metadata=self._metadata)  # type: ignore[attr-defined]
        setattr(self, method, bound)
        return bound


@dataclass
class Served:
    """A server that runs, with the kernel's end of its descriptor."""

    process: subprocess.Popen[str]
    host: socket.socket
    path: str
    stubs: Stubs


@contextmanager
def started(words: Sequence[str], token: str = TOKEN, **more: Any) -> Iterator[Served]:
    """Starts a server as a kernel does, and ends it."""
    with launched([*more.pop("command", COMMAND), *words], token, **more) as (process, host, path):
        answer = json.loads(host.makefile("rb").readline() or b"{}")
        assert answer == {"ready": True}, (answer, process.communicate(timeout=10))
        with grpc.insecure_channel(f"unix:{path}", OPTIONS) as channel:
            yield Served(process, host, path, Stubs(channel, token))


@contextmanager
def launched(
    command: Sequence[str], token: str = TOKEN, versions: Sequence[int] = (1,), **more: Any
) -> Iterator[tuple[subprocess.Popen[str], socket.socket, str]]:
    """Starts a program and tells it where to listen; whether it does is the caller's question."""
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "plugin.sock")
        environment = {**os.environ, "DEEPGEN_PLUGIN_FD": str(theirs.fileno()), **more.pop("environment", {})}
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        theirs.close()
        try:
            told = {"protocol_versions": list(versions), "token": token, "socket": path}
            ours.sendall(json.dumps(told).encode() + b"\n")
            yield process, ours, path
        finally:
            ours.close()
            process.kill()
            process.communicate()


def inline(columns: dict[str, Any] | pa.RecordBatch) -> payload_pb2.Payload:
    """Columns as a payload inside the message."""
    batch = columns if isinstance(columns, pa.RecordBatch) else payload.batch_of(columns)
    return payload_pb2.Payload(arrow=payload.written(batch).to_pybytes())


def rows_of(given: payload_pb2.Payload) -> pa.RecordBatch:
    """The rows of a payload inside the message."""
    assert given.WhichOneof("place") == "arrow"
    return payload.read(given.arrow)


def code_of(error: Any) -> tuple[str, str]:
    """(name of the status, words) of a call that was refused."""
    return error.value.code().name, error.value.details()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    return Process.of(pid) is not None
