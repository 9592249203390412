"""The command of an attempt; at the end, one attempt with the real `deepspeed` launcher over the real worker."""

import os
import sys
from pathlib import Path

import pytest
from attempts import Running

from deepgen.controller import launch
from deepgen.controller.causes import diagnose, run_has_succeeded
from deepgen.controller.executor import Phase
from deepgen.controller.launch import Machine
from deepgen.v1.job_pb2 import Attempt, Job, JobSpec


def job(**spec: object) -> Job:
    """A job of two ranks."""
    return Job(name="jobs/a", spec=JobSpec(**{"scene": "sentiment", "ranks": 2, **spec}))  # type: ignore[arg-type]


ATTEMPT = Attempt(name="jobs/a/attempts/1", uid="u-1")


def test_the_command_of_cpu_ranks(tmp_path: Path) -> None:
    folder = launch.attempt_folder(tmp_path, "a", 1)
    spec = launch.command(
        job(overrides={"learning_rate": "0.1"}),  # is in the scene that was admitted
        ATTEMPT,
        folder,
        [0, 1],
        Machine(4, tmp_path),
    )
    assert folder == tmp_path / "jobs" / "a" / "attempts" / "1"
    assert spec.command == (
        *(sys.executable, "-m", "deepspeed.launcher.runner", "-H", f"{folder}/hostfile", "--num_gpus", "2"),
        *("--no_local_rank", "--enable_each_rank_log", f"{folder}/ranks", "--module", "deepgen.kernel.worker"),
        *("--scene", f"{tmp_path}/jobs/a/scene.yaml"),
        f"--output_dir={tmp_path}/jobs/a/run",
    )
    assert (spec.uid, spec.ranks, spec.working_folder) == ("u-1", 2, tmp_path)
    assert spec.environment["DEEPGEN_ATTEMPT"] == str(folder)
    assert spec.environment["DEEPGEN_RENDEZVOUS"] == f"file://{folder}/rendezvous"
    assert (spec.environment["DS_ACCELERATOR"], spec.environment["DEEPGEN_DEVICES"]) == ("cpu", "")


def test_gpus_are_those_of_the_slots_by_any_name(tmp_path: Path) -> None:
    machine = Machine(4, tmp_path, ("GPU-a", "GPU-b", "MIG-c", "3"))
    spec = launch.command(job(), ATTEMPT, tmp_path / "jobs/a/attempts/1", [3, 2], machine)
    assert spec.environment["DEEPGEN_DEVICES"] == "3,MIG-c"
    assert "DS_ACCELERATOR" not in spec.environment
    assert "CUDA_VISIBLE_DEVICES" in spec.removed
    assert "CUDA_VISIBLE_DEVICES" not in spec.environment


def test_slots_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    one = launch.environment("u", tmp_path, [0], Machine(4, tmp_path))
    assert one["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in launch.environment("u", tmp_path, [0], Machine(4, tmp_path))


def test_a_job_that_starts_over_empties_its_run_folder(tmp_path: Path) -> None:
    folder = launch.attempt_folder(tmp_path, "a", 1)
    spec = launch.command(job(), ATTEMPT, folder, [0, 1], Machine(2, tmp_path), from_scratch=True)
    assert spec.command[-1] == "--overwrite_output_dir=true"


SCENE = """
# A tiny classifier.
task: seq2label
model: scratch:{place}/encoder.yaml
train_dir: {place}/train.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels
source_max_length: 32
per_device_train_batch_size: 8
max_steps: 2
do_eval: false
do_predict: false
bf16: false
tracking: false
"""
ENCODER = """
model_type: bert
hidden_size: 32
num_hidden_layers: 1
num_attention_heads: 2
intermediate_size: 64
max_position_embeddings: 64
tokenizer: {model: word_piece, vocab_size: 600, lowercase: true}
"""


def test_the_real_launcher_over_the_real_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLOW (a minute): the only test of the controller with `deepspeed`, two ranks and a training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = "".join(f"{'good fine nice' if row % 2 else 'bad poor sad'} word {row}\t{row % 2}\n" for row in range(64))
    (tmp_path / "train.tsv").write_text(rows, encoding="utf-8")
    (tmp_path / "encoder.yaml").write_text(ENCODER, encoding="utf-8")
    tiny = job()
    folder = launch.attempt_folder(tmp_path / "a path with spaces?", "a", 1)
    folder.parent.parent.mkdir(parents=True)
    (folder.parent.parent / launch.SCENE).write_text(SCENE.format(place=tmp_path), encoding="utf-8")
    running = Running(launch.command(tiny, ATTEMPT, folder, [0, 1], Machine(2, tmp_path)))
    running.executor.submit(running.spec)
    seen = running.until(Phase.ENDED)
    found = diagnose(folder, seen.exit)
    said = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.log"))]
    assert Attempt.Cause.Name(found.cause) == "COMPLETED", (found, seen, said)
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.done, seen.exit.survivors) == (0, (0, 1), ())
    assert run_has_succeeded(folder)
    assert (folder.parent.parent / "run" / "model" / "config.json").exists()
    assert len(list((folder / "ranks").glob("*_rank?.log"))) == 2
    running.clean()
