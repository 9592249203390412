"""How long a cancel takes: eight stand-in ranks that ignore SIGTERM, each with a detached child that does so too.

python benchmarks/cancel.py [--rounds 100] [--grace 1] [--ranks 8] [--live 50]

Also how long a new controller needs to find all of `--live` attempts again.
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

from attempts import OVER, Running, stand_in

from deepgen.controller.executor import Phase
from deepgen.controller.local import LocalExecutor


def main() -> None:
    """Prints the figures, as text and as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--grace", type=float, default=1.0)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--live", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deepgen-cancel-") as place:
        over = sorted(cancel(Path(place) / str(n), given.ranks, given.grace) for n in range(given.rounds))
        submitted, found = adopt(Path(place) / "live", given.live)
    figures = {
        "rounds": len(over),
        "ranks": given.ranks,
        "grace_s": given.grace,
        "after_grace_p50_s": round(statistics.median(over), 3),
        "after_grace_p99_s": round(over[min(len(over) - 1, int(len(over) * 0.99))], 3),
        "after_grace_max_s": round(over[-1], 3),
        "submit_ms": round(1000 * submitted / given.live, 2),
        "adopted": given.live,
        "adopt_all_s": round(found, 4),
    }
    print(f"cancel of {given.ranks} stubborn ranks with detached children, seconds after the grace, until it is known")
    print(f"that nothing is left: median {figures['after_grace_p50_s']}, p99 {figures['after_grace_p99_s']}")
    print(f"{given.live} live attempts found again in {figures['adopt_all_s']} s")
    print(json.dumps(figures))


def cancel(folder: Path, ranks: int, grace: float) -> float:
    """Seconds after the grace until the executor says that the attempt is over; then nothing may be left."""
    running = Running(stand_in(folder, ranks=ranks, stubborn=True, children=1, gate="/never/there")).start()
    begun = time.monotonic()
    running.executor.stop(running.handle, grace, checkpoint=True)
    while running.executor.observe(running.handle).phase not in OVER:
        time.sleep(0.01)
    seconds = time.monotonic() - begun - grace
    left = running.processes()
    if left:
        raise SystemExit(f"left behind: {left}")
    return seconds


def adopt(folder: Path, count: int) -> tuple[float, float]:
    """Seconds to submit so many attempts of one rank, and to find them all running by a new executor."""
    gate = str(folder / "gate")
    live = [Running(stand_in(folder / str(n), ranks=1, gate=gate)) for n in range(count)]
    begun = time.monotonic()
    for running in live:
        running.executor.submit(running.spec)
    submitted = time.monotonic() - begun
    for running in live:
        running.until(Phase.RUNNING)
    begun = time.monotonic()
    executor = LocalExecutor()
    phases = {executor.adopt(running.handle).phase for running in live}
    found = time.monotonic() - begun
    Path(gate).touch()
    ends = [running.until(Phase.ENDED).exit for running in live]
    if phases != {Phase.RUNNING} or not all(end is not None and end.succeeded for end in ends):
        raise SystemExit("an attempt was disturbed")
    return submitted, found


if __name__ == "__main__":
    main()
