"""A network for tests that takes its time: passes connections on to an address, each byte a moment late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_EACH_WAY = 0.06
"""As between two continents."""


@contextmanager
def far_away(address: str) -> Iterator[str]:
    """HOST:PORT of a listener that is far away from HOST:PORT `address`."""
    host, _, port = address.rpartition(":")
    loop = asyncio.new_event_loop()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            loop.call_later(SECONDS_EACH_WAY, writer.write, data)
        loop.call_later(SECONDS_EACH_WAY, writer.close)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(passed(reader, back), passed(there, writer))

    server = loop.run_until_complete(asyncio.start_server(accepted, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
