"""The controller is killed under live jobs: how long until the next one serves and has found all of them.

    python benchmarks/adopt.py [--live 50] [--at_once 32] [--rounds 5]

Attempts are of stand-in ranks under the real supervisor. Also how long `--at_once` jobs, submitted together, take until
all run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from light_controller import LightController

from deepgen.v1.job_pb2 import Job


def main() -> None:
    """Prints the figures, as text and as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=int, default=50)
    parser.add_argument("--at_once", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deepgen-adopt-") as place:
        with LightController(Path(place) / "together", given.at_once) as controller:
            controller.start()
            together = run(controller, given.at_once)
            finish(controller, given.at_once)
        with LightController(Path(place) / "adopted", given.live) as controller:
            controller.start()
            run(controller, given.live)
            taken = sorted(adopt(controller, given.live) for _ in range(given.rounds))
            finish(controller, given.live)
    figures = {
        "at_once": given.at_once,
        "until_all_run_s": round(together, 3),
        "live": given.live,
        "adopt_median_s": round(statistics.median(taken), 3),
        "adopt_max_s": round(taken[-1], 3),
    }
    print(f"{given.at_once} jobs submitted together: all run after {figures['until_all_run_s']} s")
    print(f"kill -9 with {given.live} live jobs: the next controller serves and has all of them after")
    print(f"{figures['adopt_median_s']} s (median of {given.rounds}; at most {figures['adopt_max_s']} s)")
    print(json.dumps(figures))


def run(controller: LightController, count: int) -> float:
    """Seconds from the first submit until so many jobs run."""
    begun = time.monotonic()
    with controller.client() as client:
        for number in range(count):
            client.create(controller.request(f"job-{number}", {"gate": str(controller.folder / "gate")}))
    for number in range(count):
        controller.wait(f"job-{number}", Job.RUNNING)
    return time.monotonic() - begun


def adopt(controller: LightController, count: int) -> float:
    """Seconds from the start of a new controller until it serves; by then it has looked at all attempts."""
    controller.kill()
    begun = time.monotonic()
    controller.start()
    taken = time.monotonic() - begun
    states = {(job.state, job.attempt) for job in (controller.job(f"job-{number}") for number in range(count))}
    if states != {(Job.RUNNING, 1)}:
        raise SystemExit(f"a job was disturbed: {states}")
    return taken


def finish(controller: LightController, count: int) -> None:
    """Lets them end."""
    (controller.folder / "gate").touch()
    for number in range(count):
        controller.wait(f"job-{number}", Job.SUCCEEDED, Job.FAILED)
    if wrong := controller.check():
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
