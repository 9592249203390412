"""A client behind a slow connection: a server that stops waits until its answer has left."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import grpc.aio
from model_servers import Client, Served, rows, serve

from deepgen.controller.model_server.model import ServedModel

SPEED = 1_500_000
"""Bytes a second."""
COUNT, WORDS = 1800, 1000
"""Rows, and words of a row: an answer of nine megabytes."""


class Slow:
    """Passes connections on to an address; what comes back is slow."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._there = host, int(port)
        self.passed = 0
        """Bytes that came back."""

    async def start(self) -> tuple[asyncio.Server, str]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connect(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)  # else the system takes megabytes in
        near.connect(self._there)
        back, there = await asyncio.open_connection(sock=near)
        await asyncio.gather(self._pass(source, there, 0), self._pass(back, target, SPEED))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, speed: int) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
                if speed:
                    self.passed += len(data)
                    await asyncio.sleep(len(data) / speed)
        target.close()


def test_an_answer_on_its_way_is_waited_for(model: ServedModel) -> None:
    async def check(served: Served) -> None:
        slow = Slow(served.address)
        proxy, address = await slow.start()
        async with grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", 1 << 26)]) as channel:
            asked = Client(channel).model.Predict(rows(["good film " * (WORDS // 2)] * COUNT, lines=True))
            while 'outcome="OK"' not in served.server._metrics.text():
                assert not asked.done()
                await asyncio.sleep(0.01)
            await served.server.stop(30)
            with contextlib.suppress(grpc.aio.AioRpcError):  # what the system still holds is gRPC's to lose
                await asked
        proxy.close()
        assert slow.passed > 5 * COUNT * WORDS // 2, "the server has not given it up"

    serve(model, check)
