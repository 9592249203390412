"""Suspended and resumed jobs against uninterrupted ones: the loss curves have to be the same, bit for bit.

    python benchmarks/suspend.py [--stages 0 1 2 3] [--suspends 5] [--steps 600]

For each ZeRO stage a controller of its own runs a tiny classifier with dropout twice on two real DeepSpeed ranks: once
without a break, once suspended at random steps and resumed. Prints a line a stage; exit code 1 where a curve differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deepgen.controller.client import Client
from deepgen.controller.connection import Endpoint
from deepgen.kernel.events import read_events
from deepgen.v1.controller_pb2 import CreateJobRequest, ResumeJobRequest, SuspendJobRequest
from deepgen.v1.job_pb2 import Job, JobSpec

SCENE = """# A tiny classifier with dropout.
task: seq2label
model: scratch:{place}/encoder.json
train_dir: {place}/train.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
source_max_length: 32
per_device_train_batch_size: 4
max_steps: {steps}
zero_stage: {stage}
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


def write_data(place: Path) -> None:
    """A few rows and an architecture."""
    draw = random.Random(1)
    words = ["good", "fine", "nice", "well", "bad", "poor", "sad", "dull"]
    rows = []
    for _ in range(256):
        chosen = [draw.choice(words) for _ in range(draw.randint(2, 20))]
        rows.append(f"{' '.join(chosen)}\t{int(sum(words.index(word) < 4 for word in chosen) * 2 > len(chosen))}\n")
    (place / "train.tsv").write_text("".join(rows), encoding="utf-8")
    (place / "encoder.json").write_text(json.dumps(ENCODER), encoding="utf-8")


def curve(folder: Path) -> dict[int, tuple[float, ...]]:
    """Step → loss, gradient norm and learning rate."""
    found = {}
    for event in read_events(folder / "events.jsonl"):
        values = event.progress.values
        if event.HasField("progress") and "loss" in values:
            found[event.progress.step] = (values["loss"], values["grad_norm"], values["learning_rate"])
    return found


def follow(client: Client, name: str, breaks: list[int]) -> Job:
    """Waits for the end of a job; suspends it once it is behind each of the steps, and resumes it."""
    while True:
        job = client.get(name)
        if job.state in ENDED:
            return job
        if breaks and job.state == Job.RUNNING and job.progress.step >= breaks[0]:
            breaks.pop(0)
            client.suspend(SuspendJobRequest(name=name))
        elif job.state == Job.SUSPENDED:
            client.resume(ResumeJobRequest(name=name))
        time.sleep(0.2)


def compare(stage: int, suspends: int, steps: int) -> bool:
    """Both runs at one ZeRO stage."""
    with tempfile.TemporaryDirectory(prefix="deepgen-suspend-") as folder:
        place, state = Path(folder), Path(folder) / "state"
        write_data(place)
        serve = [sys.executable, "-m", "deepgen.controller.cli", "serve", "--state", str(state), "--slots", "2"]
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", "XDG_CACHE_HOME": str(place / "cache")}
        server = subprocess.Popen(
            [*serve, "--address", "127.0.0.1:0", "--allow", str(place)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert server.stdout is not None
            server.stdout.readline()
            address = (state / "address").read_text(encoding="utf-8").strip()
            client = Client(Endpoint(address, (state / "token").read_text(encoding="utf-8").strip()))
            draw = random.Random(stage)
            found = []
            for breaks in ([], sorted(draw.sample(range(1, steps - 20), suspends))):
                spec = JobSpec(inline_scene=SCENE.format(place=place, stage=stage, steps=steps), ranks=2)
                name = client.create(CreateJobRequest(job=Job(spec=spec))).name
                job = follow(client, name, breaks)
                if job.state != Job.SUCCEEDED:
                    print(f"ZeRO {stage}: {name} is {Job.State.Name(job.state)}: {job.state_reason}")
                    return False
                found.append((curve(state / name / "run"), job.attempt))
            (whole, _), (broken, attempts) = found
            same = whole == broken and len(whole) == steps
            how = "the same curve, bit for bit" if same else "ANOTHER curve"
            print(f"ZeRO {stage}: {len(broken)} steps in {attempts} attempts: {how}", flush=True)
            return same
        finally:
            server.terminate()
            server.wait()


def main() -> int:
    """All stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--suspends", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    same = [compare(stage, given.suspends, given.steps) for stage in given.stages]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
