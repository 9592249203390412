"""A controller in a process of its own, which tests may kill: the real `serve`, with attempts of stand-in ranks.

    python light_controller.py FOLDER SLOTS GRACE PORT

The state is in FOLDER/state. A job behaves as the file FOLDER/data/NAME.json says that its label `told` names; a list
there has one behaviour for each attempt, the last one for all that follow.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attempts import PATIENCE, STAND_IN, until

from deepgen.controller.admission import Roots
from deepgen.controller.client import Client
from deepgen.controller.connection import ADDRESS, Endpoint
from deepgen.controller.executor import Spec
from deepgen.controller.launch import Machine, attempt_folder, command
from deepgen.controller.processes import Process
from deepgen.controller.reading import Reader
from deepgen.controller.records import read_record
from deepgen.controller.schema import connect
from deepgen.controller.serving import STORE, Settings, serve
from deepgen.v1.controller_pb2 import CreateJobRequest, JobEvent
from deepgen.v1.job_pb2 import Attempt, Job

SCENE = """# Letters that are words or not.
task: seq2label
model: {data}/model
train_dir: {data}/rows.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
"""
SECONDS_BETWEEN_LOOKS = 0.03
ENDED = (Job.SUCCEEDED, Job.FAILED, Job.CANCELLED)
_LEAVING: set[Job.State.ValueType] = {Job.SUSPENDING, Job.CANCELLING}
STEPS: dict[Job.State.ValueType, set[Job.State.ValueType]] = {
    Job.QUEUED: {Job.STARTING, Job.SUSPENDED, Job.CANCELLED},
    Job.STARTING: {Job.RUNNING, Job.QUEUED, Job.SUCCEEDED, Job.FAILED, *_LEAVING},
    Job.RUNNING: {Job.QUEUED, Job.SUCCEEDED, Job.FAILED, *_LEAVING},
    Job.SUSPENDING: {Job.SUSPENDED, Job.QUEUED, Job.CANCELLING, Job.SUCCEEDED, Job.FAILED},
    Job.SUSPENDED: {Job.QUEUED, Job.CANCELLED},
    Job.CANCELLING: {Job.CANCELLED, Job.QUEUED, Job.SUCCEEDED, Job.FAILED},
    Job.SUCCEEDED: {Job.QUEUED},
    Job.FAILED: {Job.QUEUED},
    Job.CANCELLED: {Job.QUEUED},
}
"""The states that may follow each; jobs.py draws them."""


class LightController:
    """The process, started as often as it dies, if it is so wished."""

    def __init__(self, folder: Path, slots: int = 2, grace: float = 5.0) -> None:
        self.folder, self.slots, self.grace = folder, slots, grace
        self.state, self.data, self.launched = folder / "state", folder / "data", folder / "launched"
        self.launched.mkdir(parents=True)
        (self.data / "model").mkdir(parents=True)
        (self.data / "model" / "config.json").write_text('{"model_type": "bert"}')
        (self.data / "rows.tsv").write_text("a word\t1\nxyzzy\t0\n")
        (self.data / "letters.yaml").write_text(SCENE.format(data=self.data))
        self.starts = 0
        self.fault = ""
        """DEEPGEN_FAULT of the processes that are started from now on."""
        self._process: subprocess.Popen[str] | None = None
        self._keeper: threading.Thread | None = None
        self._over = threading.Event()

    # --- the process --------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Starts it and waits until it serves; False when it died before."""
        port = self.address.rpartition(":")[2] if (self.state / ADDRESS).exists() else "0"
        program = [sys.executable, __file__, str(self.folder), str(self.slots), str(self.grace), port]
        environment = {**os.environ, "DEEPGEN_FAULT": self.fault}
        with (self.folder / "controller.err").open("ab") as errors:
            self._process = subprocess.Popen(
                program, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, start_new_session=True
            )
        self.starts += 1
        assert self._process.stdout is not None
        return self._process.stdout.readline() != ""

    def keep(self) -> LightController:
        """Starts it, and again whenever it has died, until `close`."""
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()
        until(lambda: (self.state / ADDRESS).exists())
        return self

    def _keep(self) -> None:
        while not self._over.is_set():
            if self._process is None or self._process.poll() is not None:
                self.start()
            self._over.wait(0.01)

    def kill(self) -> bool:
        """kill -9; whether there was one."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        return process.wait() == -signal.SIGKILL

    def close(self) -> None:
        """Ends it, and all that it has started, by force."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join()
        self.kill()
        until(lambda: not self.end_orphans())

    def end_orphans(self) -> list[Process]:
        """Kills what `orphans` finds, and gives what it was."""
        found = self.orphans()
        for process in found:
            process.signal(signal.SIGKILL)
        return found

    def __enter__(self) -> LightController:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def process_id(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    # --- what it did --------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it listens, which does not change."""
        return (self.state / ADDRESS).read_text(encoding="utf-8").strip()

    def client(self, address: str = "", patience: float = PATIENCE) -> Client:
        """For its own user; perhaps by way of a proxy."""
        token = (self.state / "token").read_text(encoding="utf-8").strip()
        return Client(Endpoint(address or self.address, token), patience=patience)

    def request(self, name: str, *told: dict[str, Any], **fields: Any) -> CreateJobRequest:
        """A job of that ID and behaviour."""
        behaviours = [{"launched": str(self.launched), **each} for each in told]
        (self.data / f"{name}.json").write_text(json.dumps(behaviours))
        request = CreateJobRequest(job_id=name, job=Job(labels={"told": name}))
        request.job.spec.MergeFrom(type(request.job.spec)(scene=str(self.data / "letters.yaml"), **fields))
        request.job.spec.retry.max_attempts = request.job.spec.retry.max_attempts or 100
        return request

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """Of its file, whether it lives or not."""
        connection = connect(self.state / STORE)
        try:
            connection.execute("BEGIN")
            yield Reader(connection)
        finally:
            connection.close()

    def job(self, name: str) -> Job:
        """As it is on record."""
        with self.reader() as reader:
            job = reader.job(name)
        assert job is not None
        return job

    def attempt(self, name: str) -> Path:
        """The folder of the newest attempt."""
        return attempt_folder(self.state, name, self.job(name).attempt)

    def process(self, name: str, record: str) -> Process | None:
        """Of a record of the newest attempt: `shim.json`, `rank_0.pid`."""
        return Process.read(read_record(self.attempt(name) / record))

    def wait(self, name: str, *states: Job.State.ValueType) -> Job:
        """Waits for one of the states."""
        deadline = time.monotonic() + PATIENCE
        while (job := self.job(name)).state not in states:
            assert time.monotonic() < deadline, f"{name} is {Job.State.Name(job.state)}: {job.state_reason}"
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return job

    def orphans(self) -> list[Process]:
        """Processes of attempts and their supervisors: those that carry the folder in environment or command."""
        mark, found = os.fsencode(self.state / "jobs") + b"/", []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                text = Path("/proc", entry, "cmdline").read_bytes() + Path("/proc", entry, "environ").read_bytes()
            except OSError:
                continue
            if mark in text and (process := Process.of(int(entry))) is not None:
                found.append(process)
        return found

    def check(self) -> list[str]:
        """What is wrong with the record, for all jobs: one line each."""
        wrong = []
        with self.reader() as reader:
            events = list(_events(reader))
            attempts = {
                attempt.uid: attempt.name
                for job in {event.job.name.removeprefix("jobs/") for event in events}
                for attempt in reader.attempts(job)
            }
        numbers = [event.sequence for event in events]
        if numbers != list(range(1, len(numbers) + 1)):
            wrong.append(f"the events are numbered {numbers[:20]} …")
        before: dict[str, Job.State.ValueType] = {}
        for event in events:
            name, state = event.job.name, event.job.state
            if name not in before and (event.type, state) != (JobEvent.CREATED, Job.QUEUED):
                wrong.append(f"{name} begins as {Job.State.Name(state)}")
            elif before.get(name, state) != state and state not in STEPS[before[name]]:
                wrong.append(f"{name} went from {Job.State.Name(before[name])} to {Job.State.Name(state)}")
            before[name] = state
        launched = {path.name for path in self.launched.iterdir()}
        wrong += [f"{uid} was launched" for uid in launched - attempts.keys()]
        return wrong


def _events(reader: Reader) -> Iterator[JobEvent]:
    after = 0
    while events := reader.events(after, 1000):
        yield from events
        after = events[-1].sequence


def main(folder: Path, slots: int, grace: float, port: int) -> int:
    """The process."""
    data = folder / "data"

    def stand_in(
        job: Job, attempt: Attempt, folder: Path, slots: Sequence[int], machine: Machine, **options: Any
    ) -> Spec:
        told = json.loads((data / f"{job.labels['told']}.json").read_text())
        behaviour = told[min(job.attempt, len(told)) - 1]
        text = json.dumps({"ranks": job.spec.ranks or 1, **behaviour})
        made = command(job, attempt, folder, slots, machine, **options)
        return replace(made, command=(sys.executable, "-I", "-S", str(STAND_IN), text))

    def ready(address: str) -> None:
        print(address, flush=True)

    settings = Settings(
        state=folder / "state",
        address=f"127.0.0.1:{port}",
        slots=slots,
        working_folder=folder,
        roots=Roots((data,)),
        grace=grace,
        command=stand_in,
    )
    return serve(settings, ready)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
