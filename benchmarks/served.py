"""A served model at many clients against offline prediction of the same rows, which take turns on one machine.

    python benchmarks/served.py FOLDER ROWS [--clients 32] [--rounds 3] [--rows 1800] [--name value …]

FOLDER is a run folder, ROWS a TSV file whose first column is the text. `deepgen serve-model` runs in a process of its
own, and all clients, each with its own connection, in another one; offline prediction is `load(FOLDER).predict(rows)`
in this one. Clients ask for one row at a time, for 16, or in a stream of single rows with 16 on their way. The bound of
the latency is the window and two forwards, as long as a batch takes here of as many rows as clients have under way. CPU
time, of the server alone, says the same on a machine that others use too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measure import tell

MODES = {"1 row": (1, 1), "16 rows": (16, 1), "stream": (1, 16)}
"""Rows of a request, and requests of a client under way."""


async def client(address: str, requests: Iterator[Any], ahead: int, latencies: list[float]) -> None:
    """Asks until there are no more requests."""
    import grpc.aio

    from deepgen.v1.model_service_pb2_grpc import ModelServiceStub

    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        stub: Any = ModelServiceStub(channel)
        if ahead == 1:
            for request in requests:
                begin = time.perf_counter()
                response = await stub.Predict(request)
                latencies.append(time.perf_counter() - begin)
                assert response.WhichOneof("result") == "answers", response
            return
        begun: list[float] = []
        room = asyncio.Semaphore(ahead)

        async def asked() -> Any:
            for request in requests:
                await room.acquire()
                begun.append(time.perf_counter())
                yield request

        place = 0
        async for response in stub.PredictStream(asked()):
            latencies.append(time.perf_counter() - begun[place])
            place += 1
            room.release()
            assert response.WhichOneof("result") == "answers", response


async def clients(
    address: str, texts: Sequence[str], column: str, mode: str, count: int, server: int
) -> dict[str, Any]:
    """All clients: seconds, CPU seconds of the server, and the latency of each request."""
    import pyarrow as pa

    from deepgen.kernel import payload
    from deepgen.v1 import model_service_pb2, payload_pb2

    def request(chosen: Sequence[str]) -> Any:
        data = payload.written(pa.RecordBatch.from_pydict({column: chosen})).to_pybytes()
        return model_service_pb2.PredictRequest(rows=payload_pb2.Payload(arrow=data))

    size, ahead = MODES[mode]
    made = [request(texts[begin : begin + size]) for begin in range(0, len(texts), size)]
    warm, latencies = list[float](), list[float]()
    await asyncio.gather(*(client(address, iter(made[:2]), 1, warm) for _ in range(count)))
    requests = iter(made)
    begin, cpu = time.perf_counter(), cpu_of(server)
    await asyncio.gather(*(client(address, requests, ahead, latencies) for _ in range(count)))
    return {"seconds": time.perf_counter() - begin, "cpu": cpu_of(server) - cpu, "latencies": latencies}


def cpu_of(process: int) -> float:
    """CPU seconds that a process and those that it has started have had."""
    import psutil

    first = psutil.Process(process)
    taken = [one.cpu_times() for one in (first, *first.children(recursive=True))]
    return float(sum(one.user + one.system for one in taken))


def quantile(values: Sequence[float], percent: int) -> float:
    """In milliseconds."""
    return statistics.quantiles(values, n=100)[percent - 1] * 1e3


def measure(given: argparse.Namespace, rest: Sequence[str]) -> None:
    """Offline and served in turn."""
    import torch

    from deepgen.kernel.realtime import load

    options = {name.removeprefix("--"): value for name, value in zip(rest[::2], rest[1::2], strict=True)}
    predictor = load(given.folder, **{"result_header": given.column, **options})
    lines = [line.split("\t")[0] for line in given.texts.read_text(encoding="utf-8").split("\n") if line]
    texts = (lines * -(-given.rows // len(lines)))[: given.rows]
    records = [{given.column: text} for text in texts]
    predictor.predict(records[:64])
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        file, address = Path(place) / "texts.json", f"unix:{place}/served.sock"
        file.write_text(json.dumps(texts))
        most = given.clients * max(size * ahead for size, ahead in MODES.values())
        command = [sys.executable, "-m", "deepgen.controller.cli", "serve-model", str(given.folder), *rest]
        server = subprocess.Popen(
            [*command, "--listen", address, "--max-batch", str(most), "--batch-window", str(given.window)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            assert server.stdout.readline()
            for _ in range(given.rounds):
                for mode in given.modes:
                    begin, cpu = time.perf_counter(), time.process_time()
                    predictor.predict(records)
                    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
                    asking = [sys.executable, __file__, "--client", address, str(file), given.column, mode]
                    asking += [str(given.clients), str(server.pid)]
                    done = subprocess.run(asking, stdout=subprocess.PIPE, text=True, check=True)
                    told = json.loads(done.stdout)
                    size, ahead = MODES[mode]
                    batch = given.clients * size * ahead
                    bound = given.window + 2 * forward(predictor, given.column, texts, batch)
                    for name, value in {
                        "offline rows/s": len(texts) / seconds,
                        "rows/s": len(texts) / told["seconds"],
                        "ratio": seconds / told["seconds"],
                        "ratio by CPU": cpu / told["cpu"],
                        "p50 ms": quantile(told["latencies"], 50),
                        "p99 ms": quantile(told["latencies"], 99),
                        "bound ms": bound,
                    }.items():
                        found.setdefault(f"{mode}: {name}", []).append(value)
        finally:
            server.terminate()
            server.wait()
    print(f"{given.clients} clients, {len(texts)} rows, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    names = [name.partition(": ")[2] for name in found if name.startswith(given.modes[0])]
    print(" " * 9 + "".join(f"{name:>16}" for name in names))
    middle = {name: statistics.median(values) for name, values in found.items()}
    for mode in given.modes:
        print(f"{mode:9}" + "".join(f"{middle[f'{mode}: {name}']:16.2f}" for name in names))
    tell(**middle)


def forward(predictor: Any, column: str, texts: Sequence[str], count: int) -> float:
    """The milliseconds that a batch of so many rows takes, the worst of a few."""
    import pyarrow as pa

    taken = []
    for turn in range(3):
        begin = time.perf_counter()
        _, passes = predictor.predictions([pa.array(texts[turn * count : (turn + 1) * count])])
        list(passes)
        taken.append(time.perf_counter() - begin)
    return max(taken) * 1e3


def main() -> None:
    """Measures and prints."""
    if sys.argv[1:2] == ["--client"]:
        address, file, column, mode, count, server = sys.argv[2:]
        texts = json.loads(Path(file).read_text())
        print(json.dumps(asyncio.run(clients(address, texts, column, mode, int(count), int(server)))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1800)
    parser.add_argument("--column", default="text")
    parser.add_argument("--window", type=float, default=3.0, help="milliseconds")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    measure(*parser.parse_known_args())


if __name__ == "__main__":
    main()
