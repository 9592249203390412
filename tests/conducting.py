"""A conductor with a store, the executor of this machine and stand-in ranks for tests; its time stands still."""

from __future__ import annotations

import json
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from attempts import STAND_IN, Running, until
from stored_jobs import a_job

from deepgen.controller import jobs
from deepgen.controller.attempts import start_attempt
from deepgen.controller.conductor import Conduct, Conductor
from deepgen.controller.executor import Phase, Spec
from deepgen.controller.jobs import Record
from deepgen.controller.launch import RUN, Machine, command, job_folder
from deepgen.controller.local import LocalExecutor
from deepgen.controller.store import Store
from deepgen.v1.job_pb2 import Attempt, Job

SPEC = type(Job().spec)
PRESENT = 1e6
"""Seconds since 1970 at which the tests begin."""


class World:
    """A store, a conductor and its machine; `data/ID.json` tells how a job behaves, in each attempt."""

    def __init__(self, folder: Path) -> None:
        self.state, self.told = folder / "state", folder / "told"
        self.told.mkdir()
        self.ahead, self.flows = 0.0, False
        self.store = Store(self.state / "controller.db", self.now)
        self.conduct = Conduct(self.state, Machine(2, folder), grace=60.0, command=self._command)
        self.conductor = Conductor(self.store, LocalExecutor(), self.conduct, self.now)

    def now(self) -> float:
        """Our time stands still but for `pass_time`, unless it `flows`."""
        return PRESENT + self.ahead + (time.monotonic() if self.flows else 0.0)

    def pass_time(self, seconds: float) -> None:
        """So much of it is over."""
        self.ahead += seconds
        self.conductor.wake()

    def begin(self, **conduct: Any) -> World:
        """A conductor of this machine, as after a start of the controller."""
        self.conductor.close()
        self.conductor = Conductor(self.store, LocalExecutor(), replace(self.conduct, **conduct), self.now)
        self.conductor.start()
        until(self.conductor.ready.is_set)
        return self

    def close(self) -> None:
        """Nothing of it is left."""
        self.conductor.close()
        with self.store.reader() as reader:
            live = [attempt for job in reader.live() for attempt in reader.attempts(job.name[5:])]
        for attempt in live:
            until(partial(self._is_over, attempt))
        self.store.close()

    def _is_over(self, attempt: Attempt) -> bool:
        LocalExecutor().stop(attempt.handle, 0, checkpoint=False)
        return LocalExecutor().observe(attempt.handle).phase in (Phase.ENDED, Phase.LOST)

    def _command(
        self, job: Job, attempt: Attempt, folder: Path, slots: Sequence[int], machine: Machine, **options: Any
    ) -> Spec:
        told = json.loads((self.told / f"{job.name[5:]}.json").read_text())
        behaviour = {
            "ranks": job.spec.ranks,
            "gate": str(self.gate(job.name[5:])),
            **told[min(job.attempt, len(told)) - 1],
        }
        made = command(job, attempt, folder, slots, machine, **options)
        return replace(made, command=(sys.executable, "-I", "-S", str(STAND_IN), json.dumps(behaviour)))

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def submit(
        self,
        id: str,
        *told: dict[str, Any],
        owner: str = "ada",
        priority: int = 0,
        scene_text: str = "",
        **spec: Any,
    ) -> None:
        """A job whose ranks end at its gate unless they are told otherwise."""
        (self.told / f"{id}.json").write_text(json.dumps(told or [{}]))
        job = a_job(id, owner, priority, now=self.now())
        job.spec.MergeFrom(SPEC(**spec))
        if spec.get("ranks"):
            job.spec.ranks = spec["ranks"]
        packed = zlib.compress(scene_text.encode()) if scene_text else b""
        self.store.write(lambda transaction: transaction.insert_job(job, owner, scene=packed)).result()
        self.conductor.wake()

    def ask(self, id: str, rule: Callable[[Record], Record]) -> None:
        """As a request of a client does."""
        self.store.write(lambda transaction: transaction.change(id, rule, "ada")).result()
        self.conductor.wake()

    def cancel(self, id: str, **options: Any) -> None:
        self.ask(id, lambda record: jobs.ask_cancel(record, self.now(), **options))

    def suspend(self, id: str) -> None:
        self.ask(id, lambda record: jobs.ask_suspend(record, self.now()))

    def resume(self, id: str) -> None:
        self.ask(id, lambda record: jobs.resume(record, self.now()))

    def gate(self, id: str) -> Path:
        """The file at which its ranks end."""
        return self.told / f"{id}.gate"

    def run(self, id: str) -> Path:
        """Its run folder."""
        return job_folder(self.state, id) / RUN

    def record(self, id: str) -> Record:
        with self.store.reader() as reader:
            return reader.record(id)

    def attempts(self, id: str) -> list[Attempt]:
        with self.store.reader() as reader:
            return reader.attempts(id)

    def wait(self, id: str, state: Job.State.ValueType, attempt: int = 0) -> Job:
        """Waits for a state, of that attempt."""
        until(lambda: self.record(id).job.state == state and self.record(id).job.attempt >= attempt)
        return self.record(id).job

    def running(self, id: str) -> Running:
        """Its live attempt, when all its ranks are there."""
        self.wait(id, Job.RUNNING)
        record = self.record(id)
        assert record.attempt is not None
        return Running(self.conductor._spec(record))

    def causes(self, id: str) -> list[str]:
        """Of its attempts."""
        return [Attempt.Cause.Name(attempt.cause) for attempt in self.attempts(id)]

    def started(self, known: Record) -> Record:
        """With an attempt on record that was not submitted."""
        changed = start_attempt(known, [0], "uid", self.now())
        assert changed.attempt is not None
        changed.attempt.handle = LocalExecutor().handle(self.conductor._spec(changed))
        return changed
