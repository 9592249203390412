"""`python broken_program.py HOW PLUGIN …`: serves plugins as `deepgen plugin serve` does, but ends wrongly."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from deepgen.controller.cli import main
from deepgen.controller.plugin_server import child, gate, identity, instances, server
from deepgen.v1 import plugin_service_pb2 as wire

ANSWERED = threading.Event()


def silent() -> None:
    sys.exit(0)


def other() -> None:
    right: Any = instances.Instances.configure

    def configure(self: Any, request: Any) -> Any:
        answer = wire.ConfigureResponse()
        answer.CopyFrom(right(self, request))
        answer.class_names.append(str(os.getpid()))
        return answer

    instances.Instances.configure = configure  # type: ignore[method-assign]


def open_to_all() -> None:
    gate.Gate._admit = lambda self, context: None  # type: ignore[method-assign]


def deaf() -> None:
    identity.Plugins.Shutdown = lambda self, request, context: wire.ShutdownResponse()  # type: ignore[method-assign]


def once() -> None:
    def shutdown(self: Any, request: Any, context: Any) -> Any:
        if ANSWERED.is_set():
            raise RuntimeError("it was told already")
        ANSWERED.set()
        threading.Timer(0.3, self._end).start()
        return wire.ShutdownResponse()

    identity.Plugins.Shutdown = shutdown  # type: ignore[method-assign]


def hasty() -> None:
    def shutdown(self: Any, request: Any, context: Any) -> Any:
        threading.Timer(0.01, os._exit, (0,)).start()
        return wire.ShutdownResponse()

    identity.Plugins.Shutdown = shutdown  # type: ignore[method-assign]


def three() -> None:
    right: Any = server.Server.run

    def run(self: Any, ready: Any) -> None:
        def also() -> None:
            signal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))
            ready()

        right(self, also)

    server.Server.run = run  # type: ignore[method-assign]


def orphan() -> None:
    child.Host.watch = lambda self: None  # type: ignore[method-assign]


HOW = {
    "silent": silent,
    "other": other,
    "open": open_to_all,
    "deaf": deaf,
    "once": once,
    "hasty": hasty,
    "three": three,
    "orphan": orphan,
}

if __name__ == "__main__":
    HOW[sys.argv[1]]()
    sys.exit(main(["plugin", "serve", *sys.argv[2:]]))
