"""A controller as `deepgen serve` starts it, and a tiny scene of DeepSpeed ranks, for the benchmarks of real jobs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepgen.controller.client import Client
from deepgen.controller.connection import Endpoint
from deepgen.kernel.events import read_events
from deepgen.v1.controller_pb2 import CreateJobRequest
from deepgen.v1.job_pb2 import Job, JobSpec

SCENE = """# A tiny classifier with dropout.
task: seq2label
model: scratch:{place}/encoder.json
train_dir: {place}/train.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
source_max_length: 32
per_device_train_batch_size: 4
logging_steps: 1
save_strategy: no
do_eval: false
do_predict: false
bf16: false
"""
ENCODER = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "tokenizer": {"model": "word_piece", "vocab_size": 300, "lowercase": True},
}
ENDED = (Job.SUCCEEDED, Job.FAILED, Job.CANCELLED)


class Served:
    """The controller's process, and jobs of the tiny scene on it."""

    def __init__(self, place: Path, slots: int, *options: str) -> None:
        """Starts it on files in `place`; its options are those of `deepgen serve`."""
        self.place, self.state, self._options = place, place / "state", (f"--slots={slots}", *options)
        _write_data(place)
        self.start()

    def start(self) -> None:
        """Starts it, again on the same address, and waits until it serves."""
        known = self.state / "address"
        address = known.read_text(encoding="utf-8").strip() if known.exists() else "127.0.0.1:0"
        program = [sys.executable, "-m", "deepgen.controller.cli", "serve", "--state", str(self.state)]
        self.process = subprocess.Popen(
            [*program, "--address", address, "--allow", str(self.place), *self._options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DS_ACCELERATOR": "cpu", "XDG_CACHE_HOME": str(self.place / "cache")},
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()
        token = (self.state / "token").read_text(encoding="utf-8").strip()
        self.client = Client(Endpoint(known.read_text(encoding="utf-8").strip(), token))

    def create(self, ranks: int = 2, attempts: int = 1, **overrides: object) -> str:
        """The name of a new job."""
        spec = JobSpec(inline_scene=SCENE.format(place=self.place), ranks=ranks)
        spec.overrides.update({name: str(value) for name, value in overrides.items()})
        spec.retry.max_attempts = attempts
        return self.client.create(CreateJobRequest(job=Job(spec=spec))).name

    def wait(self, name: str, *states: Job.State.ValueType, step: int = 0) -> Job:
        """Waits for one of the states, and for a step."""
        while True:
            job = self.client.get(name)
            if job.state in states and job.progress.step >= step:
                return job
            if job.state in ENDED:
                raise SystemExit(f"{name} is {Job.State.Name(job.state)}: {job.state_reason}")
            time.sleep(0.1)

    def run(self, name: str) -> Path:
        """The run folder of a job."""
        return self.state / name / "run"


@contextmanager
def served(slots: int, *options: str) -> Iterator[Served]:
    """A controller in a folder of its own; it and all its jobs are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="deepgen-real-") as folder:
        controller = Served(Path(folder), slots, *options)
        try:
            yield controller
        finally:
            controller.process.terminate()
            controller.process.wait()


def curve(folder: Path) -> dict[int, tuple[float, ...]]:
    """Step → loss, gradient norm and learning rate, of a run folder."""
    found = {}
    for event in read_events(folder / "events.jsonl"):
        values = event.progress.values
        if event.HasField("progress") and "loss" in values:
            found[event.progress.step] = (values["loss"], values["grad_norm"], values["learning_rate"])
    return found


def _write_data(place: Path) -> None:
    """A few rows and an architecture."""
    draw = random.Random(1)
    words = ["good", "fine", "nice", "well", "bad", "poor", "sad", "dull"]
    rows = []
    for _ in range(256):
        chosen = [draw.choice(words) for _ in range(draw.randint(2, 20))]
        rows.append(f"{' '.join(chosen)}\t{int(sum(words.index(word) < 4 for word in chosen) * 2 > len(chosen))}\n")
    (place / "train.tsv").write_text("".join(rows), encoding="utf-8")
    (place / "encoder.json").write_text(json.dumps(ENCODER), encoding="utf-8")
