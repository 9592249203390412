"""A bad network between client and controller: a TCP proxy that loses replies, cuts, delays and sends again.

python tests/controller/proxy.py --submits 10000        # through 30 % lost replies: exactly so many jobs
python tests/controller/proxy.py --disconnects 100      # a log is followed; it must be equal byte by byte
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from light_controller import LightController

from deepgen.v1.controller_pb2 import LogChunk
from deepgen.v1.job_pb2 import Job

HEADERS = 1
"""A frame of HTTP/2 that begins a reply."""
LONGEST_DELAY = 0.02
SECONDS_FOR_A_COPY = 1.0


class Proxy:
    """Passes connections on to an address, and does what it is told to them, at random."""

    def __init__(
        self,
        address: str,
        *,
        lost: float = 0.0,
        doubled: float = 0.0,
        delayed: float = 0.0,
        cut_after: int = 0,
        cuts: int | None = None,
        seed: int = 1,
    ) -> None:
        """Shares are of replies, and from 0 to 1.

        Args:
            address: HOST:PORT of the controller.
            lost: the connection is cut when the reply is there: the request was heeded, and nobody knows.
            doubled: of those cuts, all that the client had said is said once more, by a connection of its own.
            delayed: up to LONGEST_DELAY seconds.
            cut_after: the connection is cut after so many bytes of replies.
            cuts: no more than so many.
            seed: of the random choices.
        """
        self._host, _, self._port = address.rpartition(":")
        self._lost, self._doubled, self._delayed, self._cut_after = lost, doubled, delayed, cut_after
        self._most = cuts
        self._chosen = random.Random(seed)
        self._lock = threading.Lock()
        self.cuts = self.copies = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection((self._host, int(self._port)))
        except OSError:  # the controller is away
            near.close()
            return
        said = bytearray()
        threading.Thread(target=self._ask, args=(near, far, said), daemon=True).start()
        self._answer(near, far, said)

    def _ask(self, near: socket.socket, far: socket.socket, said: bytearray) -> None:
        """From the client to the controller."""
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                if self._doubled:
                    said += data
                far.sendall(data)
        _end(near, far)

    def _answer(self, near: socket.socket, far: socket.socket, said: bytearray) -> None:
        """From the controller to the client."""
        left, seen = self._cut_after, set[int]()
        with contextlib.suppress(OSError):
            for frame in _frames(far):
                stream = int.from_bytes(frame[5:9], "big")
                if frame[3] == HEADERS and stream not in seen:
                    seen.add(stream)
                    if self._happens(self._lost) and self._cut():
                        if self._happens(self._doubled):
                            self._say_again(bytes(said))
                        break
                    if self._happens(self._delayed):
                        time.sleep(self._random() * LONGEST_DELAY)
                if self._cut_after and len(frame) >= left and self._cut():
                    near.sendall(frame[:left])
                    break
                left -= len(frame)
                near.sendall(frame)
        _end(near, far)

    def _say_again(self, said: bytes) -> None:
        """A connection that begins anew and says the same is valid, down to its header compression."""
        with contextlib.suppress(OSError), socket.create_connection((self._host, int(self._port))) as far:
            far.settimeout(SECONDS_FOR_A_COPY)
            far.sendall(said)
            for frame in _frames(far):
                if frame[3] == HEADERS:
                    break
            with self._lock:
                self.copies += 1

    def _random(self) -> float:
        with self._lock:
            return self._chosen.random()

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random() < share

    def _cut(self) -> bool:
        """Whether there may be another cut; counts it."""
        with self._lock:
            if self._most is not None and self.cuts >= self._most:
                return False
            self.cuts += 1
            return True


def _frames(source: socket.socket) -> Iterator[bytes]:
    """The frames of HTTP/2 that a controller sends; see RFC 9113, section 4.1."""
    data = b""
    while more := source.recv(65536):
        data += more
        while len(data) >= 9 and len(data) >= (length := 9 + int.from_bytes(data[:3], "big")):
            yield data[:length]
            data = data[length:]


def _end(*connections: socket.socket) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def submit(controller: LightController, count: int, clients: int = 4) -> tuple[set[str], Proxy]:
    """Submits jobs that wait for ever, through a proxy that loses 30 % of the replies; their names."""
    request = controller.request("waits", {}, ranks=controller.slots + 1)
    request.job_id = ""

    def some(number: int) -> list[str]:
        with controller.client(proxy.address) as client:
            names = []
            for _ in range(number):
                request_ = type(request)()
                request_.CopyFrom(request)
                names.append(client.create(request_).name)
            return names

    with Proxy(controller.address, lost=0.3, doubled=0.3, delayed=0.2) as proxy, ThreadPoolExecutor(clients) as pool:
        shares = [count // clients + (number < count % clients) for number in range(clients)]
        names = [name for some_names in pool.map(some, shares) for name in some_names]
    if len(names) != len(set(names)):
        raise AssertionError("two requests were answered with the same job")
    return set(names), proxy


def on_record(controller: LightController) -> set[str]:
    """The names of all jobs."""
    with controller.client() as client:
        return {job.name for job in client.list_jobs()}


def follow(controller: LightController, disconnects: int, restarts: int = 1) -> tuple[str, str, Proxy]:
    """Follows a log through so many cuts and restarts; SHA-256 of what came and of the file."""
    size, gate = 40_000, controller.folder / "follow.gate"
    name = "follow"
    with controller.client() as direct:
        told = {"bytes": size * (disconnects + 2), "gate": str(gate)}
        direct.create(controller.request(name, told))
    controller.wait(name, Job.RUNNING)
    came = hashlib.sha256()
    left = restarts
    with (
        Proxy(controller.address, cut_after=size, cuts=disconnects) as proxy,
        controller.client(proxy.address) as client,
    ):
        chunks: Iterator[LogChunk] = client.logs(f"jobs/{name}", [0], follow=True)
        for chunk in chunks:
            came.update(chunk.data)
            if left and proxy.cuts >= disconnects * (restarts - left + 1) // (restarts + 1):
                left -= 1
                controller.kill()
            if proxy.cuts == disconnects and not left:
                gate.touch()
    controller.wait(name, Job.SUCCEEDED)
    (log,) = (controller.attempt(name) / "ranks").glob("*_rank0.log")
    return came.hexdigest(), hashlib.sha256(log.read_bytes()).hexdigest(), proxy


def main() -> int:
    """Prints what came of it; 1 when it is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submits", type=int, default=0)
    parser.add_argument("--disconnects", type=int, default=0)
    given = parser.parse_args()
    right = True
    with (
        tempfile.TemporaryDirectory(prefix="deepgen-proxy-") as place,
        LightController(Path(place) / "controller") as controller,
    ):
        controller.keep()
        if given.submits:
            begun = time.monotonic()
            names, proxy = submit(controller, given.submits)
            right &= names == on_record(controller) and len(names) == given.submits
            print(
                f"{given.submits} submits: {len(on_record(controller))} jobs, {proxy.cuts} replies lost, "
                f"{proxy.copies} copies sent, {time.monotonic() - begun:.0f} s"
            )
        if given.disconnects:
            came, there, proxy = follow(controller, given.disconnects)
            right &= came == there
            print(f"{proxy.cuts} disconnects, {controller.starts} starts: the logs are {'' if right else 'not '}equal")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
