"""What tests of the controller share: attempts of light stand-in ranks, under the real supervisor."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepgen.controller import records
from deepgen.controller.executor import Executor, Observation, Phase, Spec
from deepgen.controller.launch import REMOVED
from deepgen.controller.local import LocalExecutor
from deepgen.controller.processes import Process, members
from deepgen.controller.shim import COOKIE

STAND_IN = Path(__file__).parent / "controller" / "stand_in.py"
PATIENCE = 120.0
"""Seconds after which a test fails that waits for something; long, since the machine may be busy."""
OVER = (Phase.ENDED, Phase.LOST)


def until(condition: Callable[[], Any]) -> Any:
    """Waits until the condition holds, and gives what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return value


def stand_in(folder: Path, uid: str = "", environment: dict[str, str] | None = None, **behaviour: Any) -> Spec:
    """What starts stand-in ranks that behave so; see stand_in.py."""
    uid = uid or uuid.uuid4().hex
    return Spec(
        uid=uid,
        folder=folder,
        command=(sys.executable, "-I", "-S", str(STAND_IN), json.dumps(behaviour)),
        ranks=int(behaviour.get("ranks", 1)),
        working_folder=folder,
        environment={"DEEPGEN_ATTEMPT": str(folder), **(environment or {})},
        removed=REMOVED,
    )


@dataclass
class Running:
    """An attempt of stand-in ranks, and an executor that sees it."""

    spec: Spec
    executor: Executor = field(default_factory=LocalExecutor)

    @property
    def handle(self) -> bytes:
        """What finds it."""
        return self.executor.handle(self.spec)

    @property
    def gate(self) -> Path:
        """The file at which its ranks end."""
        return Path(json.loads(self.spec.command[-1])["gate"])

    def start(self) -> "Running":
        """Submits it and waits for all its ranks."""
        self.executor.submit(self.spec)
        self.until(Phase.RUNNING)
        return self

    def see(self) -> Observation:
        """By a new executor, as after a restart of the controller."""
        return LocalExecutor().adopt(self.handle)

    def until(self, *phases: Phase) -> Observation:
        """Waits for one of the phases."""
        observed: list[Observation] = []

        def reached() -> bool:
            observed[:] = [self.see()]
            return observed[0].phase in phases

        until(reached)
        return observed[0]

    def processes(self) -> list[Process]:
        """All that live, without the supervisor and trackers."""
        return members(f"{COOKIE}={self.spec.uid}")

    def rank(self, number: int) -> Process:
        """A rank that has told its pid."""
        return self.process(f"rank_{number}.pid")

    def shim(self) -> Process:
        """The supervisor."""
        return self.process(records.SHIM)

    def process(self, record: str) -> Process:
        """The process of a record."""
        process = Process.read(records.read_record(self.spec.folder / record))
        assert process is not None
        return process

    def stages(self) -> tuple[Process, Process]:
        """The two stages of the launcher."""
        by_stage: dict[bool, Process] = {}
        for process in self.processes():
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if b"--rank" not in arguments and str(STAND_IN).encode() in arguments:
                by_stage[b"--launch" in arguments] = process
        return by_stage[False], by_stage[True]

    def clean(self) -> None:
        """Ends it, whatever the test has left; fails when something of it lives on."""
        until(lambda: self._ended())
        assert self.processes() == []

    def _ended(self) -> bool:
        self.executor.stop(self.handle, 0, checkpoint=False)
        return self.see().phase in OVER


def submit_in_another_process(spec: Spec, fault: str) -> int:
    """Submits as a controller would that is killed at that point; its exit code."""
    program = (
        "import json, sys; from pathlib import Path; from deepgen.controller.executor import Spec;"
        "from deepgen.controller.local import LocalExecutor;"
        "told = json.loads(sys.stdin.read()); folders = {n: Path(told[n]) for n in ('folder', 'working_folder')};"
        "LocalExecutor().submit(Spec(**{**told, **folders}))"
    )
    told = {**spec.__dict__, "folder": str(spec.folder), "working_folder": str(spec.working_folder)}
    environment = {**os.environ, "DEEPGEN_FAULT": fault}
    return subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(told), text=True, env=environment, check=False
    ).returncode


KILLED = -signal.SIGKILL
