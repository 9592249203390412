"""The random killer: kill -9 of controllers, supervisors, launchers and ranks, at random moments of many jobs.

    python tests/controller/killer.py --kills 1000 [--seed 1] [--workers 12] [--slots 6]

Each worker takes one job after the other through its life: it submits it, suspends and resumes or cancels it as it
likes, and kills something now and then; jobs of greater priority take the slots of others. A kill counts when a living
process was hit, and by what its job did at that moment. At the end nothing may be wrong: each job has ended as it was
told to, no attempt was launched twice, no process is left, and the record of events has no gaps and only steps that the
rules allow. A seed steers what is tried; what the machine makes of it differs each time.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from attempts import STAND_IN, until
from light_controller import ENDED, LightController

from deepgen.controller.client import Client
from deepgen.controller.processes import Process, members
from deepgen.controller.records import SHIM
from deepgen.controller.shim import COOKIE
from deepgen.v1.controller_pb2 import CancelJobRequest, ResumeJobRequest, SuspendJobRequest
from deepgen.v1.job_pb2 import Attempt, Job

PHASES = {
    Job.QUEUED: "queued",
    Job.STARTING: "starting",
    Job.RUNNING: "running",
    Job.SUSPENDING: "checkpointing",
    Job.CANCELLING: "cancelling",
}
VICTIMS = ("controller", "shim", "launcher", "rank")
GRACE = 2.0
"""Seconds, for a checkpoint that takes CHECKPOINT."""
CHECKPOINT = 0.15
LOOKS = 100
"""For a victim, while the job does the same."""
MOST_KILLS = 3
"""Of one job's attempts: each is followed by a longer pause."""
ENDS = {
    "succeed": ((Job.SUCCEEDED, Attempt.COMPLETED, 0), {}),
    "fail": ((Job.FAILED, Attempt.RUN_ERROR, 1), {"exit": {"0": 1}, "error": {"0": "the loss is not a number"}}),
    "mistake": ((Job.FAILED, Attempt.USER_ERROR, 2), {"exit": {"0": 2}, "error": {"0": "there is no column labell"}}),
    "cancel": ((Job.CANCELLED, Attempt.CANCELLED, 130), {}),
}
"""What is told to a job, and how it must end: state, cause, exit code."""


class Killer:
    """The workers, and what they have hit."""

    def __init__(self, controller: LightController, kills: int, seed: int) -> None:
        self.controller, self.kills, self.seed = controller, kills, seed
        self.hits: Counter[tuple[str, str]] = Counter()
        self.jobs = 0
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def run(self, workers: int) -> None:
        """Until so many were hit, some in each phase, and all jobs have ended."""
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        begun = time.monotonic()
        until(lambda: not self.controller.orphans() or time.monotonic() > begun + GRACE + 5)
        self.wrong += [f"process {process.pid} is left" for process in self.controller.orphans()]
        self.wrong += self.controller.check()

    def _work(self, number: int) -> None:
        chosen = random.Random(f"{self.seed} {number}")
        while self.hits.total() < self.kills or self.rarest() not in {phase for phase, _ in self.hits}:
            with self._lock:
                self.jobs += 1
                name = f"job-{self.jobs}"
            try:
                self.wrong += Life(self, name, chosen).live()
            except Exception as error:  # a worker must not end unseen
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")

    def hit(self, phase: str, victim: str) -> None:
        """Counts one."""
        with self._lock:
            self.hits[phase, victim] += 1

    def rarest(self) -> str:
        """The phase in which the fewest were killed."""
        return min(PHASES.values(), key=lambda phase: sum(self.hits[phase, victim] for victim in VICTIMS))

    def table(self) -> str:
        """Kills by phase and victim."""
        rows = [["", *VICTIMS, "all"]]
        for phase in PHASES.values():
            counts = [self.hits[phase, victim] for victim in VICTIMS]
            rows.append([phase, *map(str, counts), str(sum(counts))])
        sums = [sum(self.hits[phase, victim] for phase in PHASES.values()) for victim in VICTIMS]
        rows.append(["all", *map(str, sums), str(self.hits.total())])
        return "\n".join(f"{row[0]:14}" + "".join(f"{cell:>12}" for cell in row[1:]) for row in rows)


class Life:
    """One job, from its submission to its end."""

    def __init__(self, killer: Killer, name: str, chosen: random.Random) -> None:
        self._killer, self._controller, self._name, self._chosen = killer, killer.controller, name, chosen
        self._end = chosen.choice(list(ENDS))
        folder = killer.controller.folder / "gates"
        folder.mkdir(exist_ok=True)
        self._hold, self._gate = folder / f"{name}.hold", folder / f"{name}.gate"
        self._kills = 0

    def live(self) -> list[str]:
        """Gives what is wrong with its end."""
        (state, cause, code), behaviour = ENDS[self._end]
        ranks = self._chosen.choice((1, 1, 2))
        told: dict[str, object] = {
            "hold": str(self._hold),
            "until": str(self._gate),
            "checkpoint": CHECKPOINT,
            **behaviour,
        }
        told["ranks"] = ranks
        with self._controller.client() as client:
            request = self._controller.request(self._name, told, ranks=ranks, preemptible=self._chosen.random() < 0.5)
            request.job.priority = self._chosen.choice((0, 0, 5))
            client.create(request)
            self._perhaps("queued")
            if self._chosen.random() < 0.5:
                self._reach(Job.STARTING)
                self._perhaps("starting")
            self._hold.touch()
            self._reach(Job.RUNNING)
            self._perhaps("running")
            if self._chosen.random() < 0.5:
                client.suspend(SuspendJobRequest(name=f"jobs/{self._name}"))
                self._perhaps("checkpointing")
                self._controller.wait(self._name, Job.SUSPENDED)
                client.resume(ResumeJobRequest(name=f"jobs/{self._name}"))
                self._perhaps("queued")
            if self._end == "cancel":
                self._cancel(client)
            else:
                self._gate.touch()
            job = self._controller.wait(self._name, *ENDED)
        found = (job.state, job.cause, job.exit_code)
        if found == (state, cause, code):
            return []
        return [f"{self._name} was to {self._end} and is {Job.State.Name(job.state)}: {job.state_reason}"]

    def _cancel(self, client: Client) -> None:
        request = CancelJobRequest(name=f"jobs/{self._name}", checkpoint_first=self._chosen.random() < 0.8)
        request.grace.FromMilliseconds(int(GRACE * 1000))
        self._reach(Job.RUNNING)
        client.cancel(request)
        self._perhaps("cancelling")

    def _reach(self, state: Job.State.ValueType) -> None:
        """Waits until the job is there, or past it."""
        self._controller.wait(self._name, state, *ENDED)

    def _perhaps(self, phase: str) -> None:
        """Kills something, more likely where few were killed so far."""
        wanted = self._killer.rarest() == phase
        if self._kills == MOST_KILLS or self._chosen.random() > (0.9 if wanted else 0.4):
            return
        time.sleep(self._chosen.random() * CHECKPOINT)
        victim = self._chosen.choice(VICTIMS[:-1] if phase == "starting" else VICTIMS)
        if victim == "controller":
            now = self._phase()
            hit = now is not None and self._controller.kill()
        else:
            found = self._victims(victim)
            for _ in range(LOOKS if phase != "queued" else 0):  # a busy machine takes its time to start one
                if found or self._phase() != phase:
                    break
                time.sleep(0.02)
                found = self._victims(victim)
            now = self._phase()
            hit = now is not None and bool(found) and self._chosen.choice(found).signal(signal.SIGKILL)
        if now is not None and hit:
            self._kills += victim != "controller"
            self._killer.hit(now, victim)

    def _phase(self) -> str | None:
        """What the job does now, as it is on record."""
        return PHASES.get(self._controller.job(self._name).state)

    def _victims(self, kind: str) -> Sequence[Process]:
        """Living processes of the newest attempt."""
        job = self._controller.job(self._name)
        if job.attempt == 0:
            return []
        if kind == "shim":
            shim = self._controller.process(self._name, SHIM)
            return [shim] if shim is not None and shim.alive() else []
        with self._controller.reader() as reader:
            attempt = reader.attempt(self._name, job.attempt)
        assert attempt is not None
        found = []
        for process in members(f"{COOKIE}={attempt.uid}"):
            try:
                arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(STAND_IN).encode() in arguments and (b"--rank" in arguments) == (kind == "rank"):
                found.append(process)
        return found


def play(folder: Path, kills: int, seed: int, workers: int, slots: int, tell: Callable[[str], object]) -> Killer:
    """Kills so many; what is wrong is in the killer."""
    with LightController(folder, slots, GRACE) as controller:
        killer = Killer(controller.keep(), kills, seed)
        begun = time.monotonic()
        killer.run(workers)
        tell(f"{killer.jobs} jobs in {time.monotonic() - begun:.0f} s, {controller.starts} starts of the controller")
        tell(killer.table())
    return killer


def main() -> int:
    """Prints the table, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--slots", type=int, default=6)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deepgen-killer-") as place:
        folder = Path(place) / "controller"
        killer = play(folder, given.kills, given.seed, given.workers, given.slots, print)
        if killer.wrong:
            kept = Path(tempfile.mkdtemp(prefix="deepgen-killed-"))
            folder.rename(kept / "controller")
            print(f"the state is kept in {kept}")
    print("\n".join(killer.wrong) or "nothing is wrong")
    return 1 if killer.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
