"""One process that is the controller: store, conductor and gRPC server, from the first look around to the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..kernel.errors import UserError
from .admission import Admission, Roots
from .conductor import Command, Conduct, Conductor
from .connection import ADDRESS, DEFAULT_ADDRESS
from .executor import Executor
from .launch import Machine, command
from .limits import Limits as Bounds
from .local import LocalExecutor
from .removal import sweep
from .scheduler import Limits
from .security import Tls
from .server import Server
from .store import Store
from .tokens import Tokens

STORE = "controller.db"
LOG = "controller.log"
CHECKED = ".checked"
"""Folder of scenes that came as text, while they are checked."""


@dataclass(frozen=True)
class Settings:
    """What `deepgen serve` was told."""

    state: Path
    address: str = DEFAULT_ADDRESS
    slots: int = 1
    devices: tuple[str, ...] = ()
    """The GPU of each slot; empty: slots are of the CPU."""
    working_folder: Path = field(default_factory=Path.cwd)
    roots: Roots = field(default_factory=Roots)
    tls: Tls | None = None
    mlflow_uri: str = ""
    slots_per_user: int | None = None
    grace: float = 60.0
    bounds: Bounds = field(default_factory=Bounds)
    command: Command = command
    """What makes an attempt of a job; tests start lighter ranks."""


def serve(settings: Settings, ready: Callable[[str], None]) -> int:
    """Serves until SIGTERM or Ctrl-C; jobs that run then go on, and are found again. `ready` is told the address."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _log(settings.state / LOG):
        return asyncio.run(_serve(settings, ready, LocalExecutor()))


async def _serve(settings: Settings, ready: Callable[[str], None], executor: Executor) -> int:
    state = settings.state.absolute()
    tokens = Tokens(state)
    tokens.open()
    store = Store(state / STORE)
    with contextlib.ExitStack() as undo:
        undo.callback(store.close)
        sweep(store, state)
        admission = Admission(settings.roots, state / CHECKED)
        undo.callback(admission.close)
        conduct = Conduct(
            state=state,
            machine=Machine(settings.slots, settings.working_folder.absolute(), settings.devices),
            limits=Limits(settings.slots_per_user),
            grace=settings.grace,
            mlflow_uri=settings.mlflow_uri,
            command=settings.command,
        )
        conductor = Conductor(store, executor, conduct)
        undo.callback(conductor.close)
        server = Server(
            store,
            state,
            tokens,
            admission,
            conductor,
            address=settings.address,
            tls=settings.tls,
            limits=settings.bounds,
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        address = await server.start()
        try:
            conductor.start()
            while not conductor.ready.is_set() and not stop.is_set():
                await asyncio.sleep(0.01)
            await server.ready()
            _write(state / ADDRESS, address)
            _tell_systemd()
            ready(address)
            await stop.wait()
        finally:
            await server.stop()
    return 0


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(path)


def _tell_systemd() -> None:
    """`Type=notify` of a systemd unit: the service is up when it answers. See sd_notify(3)."""
    import socket

    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, contextlib.suppress(OSError):
            told.connect("\0" + address[1:] if address.startswith("@") else address)
            told.sendall(b"READY=1")


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """What the controller says of itself, in a file of its state folder."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; give another folder by --state") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
