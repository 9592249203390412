"""Real DeepSpeed jobs submitted together on one machine: no port clash, no cross-talk, each recorded in MLflow in time.

    python benchmarks/together.py [--jobs 16] [--slots 8] [--steps 60]

Each has two ranks and runs as soon as slots are free. Two and two have the same seed: their loss curves have to be the
same, bit for bit, and different from all others. A run in MLflow is late by the time from the job's end until it is
seen there as ended. Exit code 1 when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time

from real import ENDED, Served, curve, served

from deepgen.v1.job_pb2 import Job


def statuses(controller: Served) -> dict[str, str]:
    """Name of each run in MLflow → its status there."""
    connection = sqlite3.connect(f"file:{controller.state / 'mlflow.db'}?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT name, status FROM runs"))
    except sqlite3.OperationalError:  # the first run makes the tables
        return {}
    finally:
        connection.close()


def watch(controller: Served, names: list[str]) -> tuple[list[Job], list[float], int]:
    """The jobs as they have ended, how late each was seen in MLflow, and how many ran at once."""
    jobs, late, most = {}, dict[str, float](), 0
    while len(late) < len(names):
        seen = statuses(controller) if (controller.state / "mlflow.db").exists() else {}
        now = time.time()
        for name in names:
            if name not in jobs and (job := controller.client.get(name)).state in ENDED:
                jobs[name] = job
            if name in jobs and name not in late and seen.get(name.removeprefix("jobs/")) in ("FINISHED", "FAILED"):
                late[name] = max(0.0, now - jobs[name].end_time.ToNanoseconds() / 1e9)
        most = max(most, sum(job.state == Job.RUNNING for job in controller.client.list_jobs("state = RUNNING")))
        time.sleep(0.1)
    return [jobs[name] for name in names], sorted(late.values()), most


def main() -> int:
    """Prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    with served(given.slots) as controller:
        begun = time.monotonic()
        names = [controller.create(seed=number // 2, max_steps=given.steps) for number in range(given.jobs)]
        jobs, late, most = watch(controller, names)
        spent = time.monotonic() - begun
        curves = [tuple(sorted(curve(controller.run(name)).items())) for name in names]
    states = {f"{Job.State.Name(job.state)} at attempt {job.attempt}" for job in jobs}
    pairs = all(one == other for one, other in zip(curves[::2], curves[1::2], strict=True))
    apart = len(set(curves)) == given.jobs // 2 and all(len(each) == given.steps for each in curves)
    print(f"{given.jobs} jobs of 2 ranks on {given.slots} slots, {most} at once, in {spent:.0f} s: {', '.join(states)}")
    print(f"same seed, same curve: {pairs}; another seed, another curve: {apart}")
    print(f"ended in MLflow after {late[len(late) // 2]:.1f} s (median), {late[-1]:.1f} s (most)")
    return 0 if pairs and apart and states == {"SUCCEEDED at attempt 1"} else 1


if __name__ == "__main__":
    sys.exit(main())
