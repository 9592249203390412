"""How soon MLflow knows how a real job has ended: by itself, cancelled, killed -9 in part and as a whole, MLflow gone.

    python benchmarks/endings.py [--rounds 3]

Prints for each case the seconds from the end of the job, as the controller has it, until the run in MLflow is seen with
the status that it should have; where MLflow was gone, from the moment at which its server answers again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from real import ENDED, Served, served

from deepgen.v1.controller_pb2 import CancelJobRequest
from deepgen.v1.job_pb2 import Job

LONG = 1_000_000
"""Steps of a job that does not end by itself."""


def processes(mark: Path) -> list[int]:
    """All whose command or environment names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if os.fsencode(mark) in text:
                    found.append(int(entry.name))
    return found


def kill(numbers: list[int]) -> None:
    """kill -9."""
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def succeeded(controller: Served, name: str) -> None:
    """The case of a job that ends well."""


def cancelled(controller: Served, name: str) -> None:
    controller.client.cancel(CancelJobRequest(name=name))


def a_rank_killed(controller: Served, name: str) -> None:
    record = controller.state / name / "attempts" / "1" / "rank_1.pid"
    kill([json.loads(record.read_text(encoding="utf-8"))["pid"]])


def all_killed(controller: Served, name: str) -> None:
    """Supervisor, launcher, ranks, and the process that records the run."""
    kill(processes(controller.state / name))


def all_and_the_controller_killed(controller: Served, name: str) -> None:
    controller.process.kill()
    controller.process.wait()
    all_killed(controller, name)
    controller.start()


CASES: dict[str, tuple[Callable[[Served, str], None], int, str]] = {
    "succeeded": (succeeded, 20, "FINISHED"),
    "cancelled": (cancelled, LONG, "KILLED"),
    "a rank killed": (a_rank_killed, LONG, "FAILED"),
    "all killed": (all_killed, LONG, "FAILED"),
    "all and the controller killed": (all_and_the_controller_killed, LONG, "FAILED"),
}


def ended(controller: Served, name: str) -> Job:
    """Waits for the end, whatever it is."""
    while (job := controller.client.get(name)).state not in ENDED:
        time.sleep(0.05)
    return job


def status(file: Path, name: str) -> str:
    """Of the newest run of a job in MLflow's file."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        found = connection.execute("SELECT status FROM runs WHERE name = ?", (name.removeprefix("jobs/"),)).fetchall()
    finally:
        connection.close()
    return str(found[-1][0]) if found else ""


def seconds_until(file: Path, name: str, wanted: str, since: float) -> float:
    """From `since`, in seconds since 1970, until the run is seen with its status."""
    while status(file, name) != wanted:
        time.sleep(0.05)
        if time.time() > since + 120:
            raise SystemExit(f"{name} is {status(file, name) or 'not there'} in MLflow after 2 minutes, not {wanted}")
    return max(0.0, time.time() - since)


def measure(controller: Served, case: str) -> float:
    """One round of one case."""
    act, steps, wanted = CASES[case]
    name = controller.create(max_steps=steps)
    controller.wait(name, Job.RUNNING, Job.SUCCEEDED, step=10)
    if steps == LONG:
        while (
            not (controller.state / "mlflow.db").exists() or status(controller.state / "mlflow.db", name) != "RUNNING"
        ):
            time.sleep(0.2)
    act(controller, name)
    job = ended(controller, name)
    return seconds_until(controller.state / "mlflow.db", name, wanted, job.end_time.ToNanoseconds() / 1e9)


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[None]:
    """MLflow's own server on a file; left when it answers."""
    program = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    process = subprocess.Popen(
        [*program, "--port", str(port), "--workers", "1", "--artifacts-destination", str(folder / "artifacts")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.05)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def gone(controller: Served, folder: Path, port: int, rounds: int) -> Iterator[float]:
    """MLflow's server is killed while the job runs, and is started again some seconds after the job's end."""
    for _ in range(rounds):
        with mlflow_server(folder, port):
            name = controller.create(max_steps=LONG)
            controller.wait(name, Job.RUNNING, step=10)
            while not (folder / "server.db").exists() or status(folder / "server.db", name) != "RUNNING":
                time.sleep(0.2)
        controller.client.cancel(CancelJobRequest(name=name))
        ended(controller, name)
        time.sleep(5)
        with mlflow_server(folder, port):
            yield seconds_until(folder / "server.db", name, "KILLED", time.time())


def tell(case: str, taken: list[float]) -> None:
    """One line."""
    taken.sort()
    print(f"{case:32} {taken[len(taken) // 2]:6.1f} s (median) {taken[-1]:6.1f} s (most)", flush=True)


def main() -> None:
    """All cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with served(2) as controller:
        for case in CASES:
            tell(case, [measure(controller, case) for _ in range(given.rounds)])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with served(2, "--mlflow-uri", f"http://127.0.0.1:{port}") as controller:
        tell("MLflow gone and back", list(gone(controller, controller.place, port, given.rounds)))


if __name__ == "__main__":
    main()
