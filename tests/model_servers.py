"""Served models for tests: a real server in this process or in one of its own, and stubs that ask it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pyarrow as pa

from deepgen.controller.model_server.model import ServedModel, reference_of
from deepgen.controller.model_server.server import Server, Settings
from deepgen.kernel import payload
from deepgen.kernel.realtime import Predictor
from deepgen.kernel.settings import load
from deepgen.v1 import model_service_pb2, payload_pb2
from deepgen.v1.model_service_pb2_grpc import ModelServiceStub
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceStub
from deepgen.v1.processor_service_pb2_grpc import ProcessorServiceStub

PATIENCE = 60.0


@dataclass
class Served:
    """A server in this process."""

    server: Server
    address: str
    stopped: asyncio.Event
    """A caller has asked for an end."""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with grpc.aio.insecure_channel(self.address) as channel:
            yield Client(channel)


class Client:
    """Stubs of one connection."""

    def __init__(self, channel: Any) -> None:
        self.model: Any = ModelServiceStub(channel)
        self.plugin: Any = PluginServiceStub(channel)
        self.processor: Any = ProcessorServiceStub(channel)


def loaded(folder: Path, *tokens: str, name: str = "") -> ServedModel:
    """The model of a folder as it is served, but in this process."""
    return ServedModel(Predictor(load(*reference_of(str(folder), tokens))), name)


def serve(model: ServedModel, check: Callable[[Served], Awaitable[None]], settings: Settings | None = None) -> None:
    """Serves while `check` runs."""

    async def run() -> None:
        stopped = asyncio.Event()
        server = Server(model, settings or Settings("127.0.0.1:0"), stopped.set)
        address = await server.start()
        try:
            await check(Served(server, address, stopped))
        finally:
            await server.stop(5)

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


@contextmanager
def started(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`deepgen serve-model` in a process of its own, and the line that it says first."""
    command = [sys.executable, "-m", "deepgen.controller.cli", "serve-model", str(folder), *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=PATIENCE)[1]
        yield process, line
    finally:
        process.kill()
        process.communicate()


def rows(texts: Any, lines: bool = False, **more: Any) -> model_service_pb2.PredictRequest:
    """A request for some texts."""
    return model_service_pb2.PredictRequest(rows=inline({"text": texts, **more}), lines=lines)


def inline(columns: dict[str, Any]) -> payload_pb2.Payload:
    """Columns as a payload inside the message."""
    batch = pa.RecordBatch.from_pydict(columns)
    return payload_pb2.Payload(arrow=payload.written(batch).to_pybytes())


def answers_of(response: model_service_pb2.PredictResponse) -> dict[str, list[Any]]:
    """The answers by column."""
    assert response.WhichOneof("result") == "answers", response
    found: dict[str, list[Any]] = payload.read(response.answers.rows.arrow).to_pydict()
    return found
