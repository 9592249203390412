"""The controller as its clients meet it: submits a second, how late a watch is, pages, memory, time of a command.

    python benchmarks/calls.py [--jobs 100000] [--clients 16] [--seconds 10]

The controller is a process of its own with so many jobs on record; the clients, with stock gRPC stubs and a connection
each, are another. A submit is durable when it is answered. A watch is late by the time from the change on record until
its event is here.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import grpc.aio
from light_controller import LightController
from measure import tell

from controller import QUERIES, fill, percentile
from deepgen.controller.serving import STORE
from deepgen.controller.store import Store
from deepgen.v1.controller_pb2 import CreateJobRequest, JobEvent, ListJobsRequest, WatchEventsRequest
from deepgen.v1.controller_pb2_grpc import JobsStub
from deepgen.v1.job_pb2 import Job

COMMANDS = (["jobs"], ["jobs", "-o", "json"], ["show", "JOB"], ["explain", "JOB"], ["scenes"], ["--help"])
ROUNDS = 10
WATCHED_SUBMITS_PER_SECOND = 100


def main() -> None:
    """Prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="deepgen-calls-") as place,
        LightController(Path(place) / "controller", slots=1) as controller,
    ):
        if given.jobs:
            store = Store(controller.state / STORE)
            fill(store, given.jobs, live=0)
            store.close()
        begun = time.monotonic()
        process = controller.start() and controller.process_id
        tell(case="ready", seconds=time.monotonic() - begun)
        time.sleep(2)
        tell(case="memory at rest", jobs=given.jobs, resident_mb=resident(process))
        asyncio.run(calls(controller, given.clients, given.seconds))
        tell(case="memory after calls", resident_mb=resident(process))
        commands(controller)


async def calls(controller: LightController, clients: int, seconds: float) -> None:
    """Pages, then submits by all clients, then a watch while one client submits now and then."""
    request = controller.request("holds-the-slot", {"gate": str(controller.folder / "gate")})
    request.job.priority = 1000
    token = (controller.state / "token").read_text(encoding="utf-8").strip()
    metadata = (("authorization", f"Bearer {token}"),)
    channels = [
        grpc.aio.insecure_channel(controller.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(clients)
    ]
    stubs = [JobsStub(channel) for channel in channels]
    await stubs[0].CreateJob(request, metadata=metadata)
    controller.wait("holds-the-slot", Job.RUNNING)
    request.job_id, request.job.priority = "", 0

    async def submit(stub: JobsStub) -> float:
        asked = CreateJobRequest(request_id=str(uuid.uuid4()))
        asked.MergeFrom(request)
        begin = time.monotonic()
        await stub.CreateJob(asked, metadata=metadata)
        return time.monotonic() - begin

    async def client(stub: JobsStub, until: float) -> list[float]:
        taken = []
        while time.monotonic() < until:
            taken.append(await submit(stub))
        return taken

    async def watch(stub: JobsStub, after: int, late: list[float]) -> None:
        async for event in stub.WatchEvents(WatchEventsRequest(after_sequence=after), metadata=metadata):
            if event.type == JobEvent.CREATED:
                late.append(time.time() - event.time.ToNanoseconds() / 1e9)

    taken = []
    for filter in QUERIES.values():
        for _ in range(ROUNDS):
            begin = time.monotonic()
            await stubs[0].ListJobs(ListJobsRequest(filter=filter, page_size=50), metadata=metadata)
            taken.append(time.monotonic() - begin)
    tell(case="pages of 50", p50_ms=percentile(taken, 0.5), p99_ms=percentile(taken, 0.99))
    await asyncio.gather(*map(submit, stubs))
    begin = time.monotonic()
    every = await asyncio.gather(*(client(stub, begin + seconds) for stub in stubs))
    spent, taken = time.monotonic() - begin, [each for one in every for each in one]
    tell(
        case="submits",
        clients=clients,
        submits_per_second=len(taken) / spent,
        p50_ms=percentile(taken, 0.5),
        p99_ms=percentile(taken, 0.99),
    )
    await asyncio.sleep(1)
    with controller.reader() as reader:
        newest = reader.newest_sequence()
    late: list[float] = []
    watching = asyncio.create_task(watch(stubs[0], newest, late))
    begin, count = time.monotonic(), 0
    while time.monotonic() < begin + seconds:
        await submit(stubs[1])
        count += 1
        await asyncio.sleep(max(0.0, begin + count / WATCHED_SUBMITS_PER_SECOND - time.monotonic()))
    await asyncio.sleep(0.5)
    watching.cancel()
    assert len(late) == count
    tell(case="watch", submits_per_second=count / seconds, p50_ms=percentile(late, 0.5), p99_ms=percentile(late, 0.99))
    for channel in channels:
        await channel.close()


def commands(controller: LightController) -> None:
    """What a user waits for, from the start of the process to its end."""
    with controller.client() as client:
        job = next(iter(client.list_jobs())).name.removeprefix("jobs/")
    where = ["--address", controller.address, "--token-file", str(controller.state / "token")]
    program = shutil.which("deepgen") or "deepgen"
    for command in COMMANDS:
        words = [job if word == "JOB" else word for word in command]
        words += where if command[0] not in ("--help", "scenes") else []
        taken = []
        for _ in range(ROUNDS):
            begin = time.monotonic()
            subprocess.run([program, *words], stdout=subprocess.DEVNULL, check=True)
            taken.append(time.monotonic() - begin)
        tell(case=f"deepgen {' '.join(command)}", median_s=statistics.median(taken), max_s=max(taken))


def resident(process: int) -> float:
    """Of a process, in MB."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
