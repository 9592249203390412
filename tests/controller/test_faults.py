"""The controller and its supervisors are killed at every named point of the source, and no job notices."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from attempts import until
from light_controller import LightController

from deepgen.controller import faults
from deepgen.controller.records import SHIM
from deepgen.v1.controller_pb2 import ResumeJobRequest, SuspendJobRequest
from deepgen.v1.job_pb2 import Job

SOURCES = Path(faults.__file__).parent
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted(SOURCES.rglob("*.py")))
POINTS = sorted(set(re.findall(r'\bpoint\("(.+?)"\)', SOURCE)))
FAULTS = [*POINTS, *(f"{name}:{number}" for name in POINTS if name.startswith("store.") for number in (2, 3, 5, 8))]
"""Each commit is a place of its own."""
AT_ONCE = 6


def live_through(folder: Path, fault: str) -> list[str]:
    """A job that loses its supervisor, is suspended by force, resumed, and ends; what is wrong."""
    hit, gate = folder / "hit", folder / "gate"
    with LightController(folder, grace=0.3) as controller:
        controller.fault = f"{fault}@{hit}"
        controller.keep()
        with controller.client() as client:
            client.create(controller.request("letters", {"gate": str(gate), "stubborn": True}))
            job = controller.wait("letters", Job.RUNNING)
            if not fault.startswith("shim."):  # those kill a supervisor by themselves
                shim = controller.process("letters", SHIM)
                assert shim is not None
                assert shim.signal(signal.SIGKILL)
                until(lambda: controller.job("letters").attempt > job.attempt)
                controller.wait("letters", Job.RUNNING)
            client.suspend(SuspendJobRequest(name="jobs/letters"))
            controller.wait("letters", Job.SUSPENDED)
            gate.touch()
            client.resume(ResumeJobRequest(name="jobs/letters"))
            job = controller.wait("letters", Job.SUCCEEDED)
        until(lambda: not controller.orphans())
        wrong = controller.check()
        if not hit.exists():
            wrong.append(f"nothing came by {fault}: this test has to lead a job there")
        # Suspended and resumed: two attempts, and one more where one was lost.
        starts, attempts = (1, (2, 3)) if fault.startswith("shim.") else (2, (3,))
        if controller.starts != starts or job.attempt not in attempts:
            wrong.append(f"{controller.starts} starts of the controller, {job.attempt} attempts")
        return wrong


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[list[str]]]]:
    """Several at once: most of the time each waits."""
    home = tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {fault: pool.submit(live_through, home / fault.replace(":", "_"), fault) for fault in FAULTS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_job_comes_to_its_right_end_whatever_is_killed_at_a_named_point(
    fault: str, outcomes: dict[str, Future[list[str]]]
) -> None:
    assert outcomes[fault].result() == []
