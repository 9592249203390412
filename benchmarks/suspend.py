"""Suspended and resumed jobs against uninterrupted ones: the loss curves have to be the same, bit for bit.

    python benchmarks/suspend.py [--stages 0 1 2 3] [--suspends 5] [--steps 600]

For each ZeRO stage a controller of its own runs a tiny classifier with dropout twice on two real DeepSpeed ranks: once
without a break, once suspended at random steps and resumed. Prints a line a stage; exit code 1 where a curve differs.
"""

from __future__ import annotations

import argparse
import random
import sys

from real import Served, curve, served

from deepgen.v1.controller_pb2 import ResumeJobRequest, SuspendJobRequest
from deepgen.v1.job_pb2 import Job


def compare(controller: Served, stage: int, suspends: int, steps: int) -> bool:
    """Both runs at one ZeRO stage."""
    draw = random.Random(stage)
    found = []
    for breaks in ([], sorted(draw.sample(range(1, steps - 20), suspends))):
        name = controller.create(zero_stage=stage, max_steps=steps)
        for step in breaks:
            if controller.wait(name, Job.RUNNING, Job.SUCCEEDED, step=step).state == Job.RUNNING:
                controller.client.suspend(SuspendJobRequest(name=name))
                controller.wait(name, Job.SUSPENDED)
                controller.client.resume(ResumeJobRequest(name=name))
        job = controller.wait(name, Job.SUCCEEDED)
        found.append((curve(controller.run(name)), job.attempt))
    (whole, _), (broken, attempts) = found
    same = whole == broken and len(whole) == steps
    how = "the same curve, bit for bit" if same else "ANOTHER curve"
    print(f"ZeRO {stage}: {len(broken)} steps in {attempts} attempts: {how}", flush=True)
    return same


def main() -> int:
    """All stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--suspends", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    with served(2) as controller:
        same = [compare(controller, stage, given.suspends, given.steps) for stage in given.stages]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
