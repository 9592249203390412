"""The controller with real ranks: the lines of the README, and a job that is suspended as if nothing had happened."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.kernel.events import read_events

from .conftest import DEEPGEN, Deepgen, call

PATIENCE = 200.0


@contextlib.contextmanager
def controller(place: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Iterator[Path]:
    """`deepgen serve`, found by the commands as its first lines say; gives its state folder."""
    state = place / "state"
    process = subprocess.Popen(
        [*DEEPGEN, "serve", "--state", str(state), "--address", "127.0.0.1:0", "--allow", str(place), *words],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        monkeypatch.setenv("DEEPGEN_ADDRESS", (state / "address").read_text().strip())
        monkeypatch.setenv("DEEPGEN_TOKEN_FILE", str(state / "token"))
        yield state
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A controller on two slots; gives its state folder."""
    with controller(place, monkeypatch, "--slots=2") as state:
        yield state


def shown(job: str) -> dict[str, object]:
    """The job as the API has it; its attempts come on the lines that follow.

    Asked for in this process: one more for each look would take the processor from the ranks that are waited for.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["show", job, "-o", "json"]) == 0
    return dict(json.loads(said.getvalue().splitlines()[0]))


def wait(job: str, state: str, step: int = 0) -> dict[str, object]:
    """Waits until the job is in a state, and at a step."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        seen = shown(job)
        progress = seen.get("progress", {})
        assert isinstance(progress, dict)
        if seen["state"] == state and int(progress.get("step", 0)) >= step:
            return seen
        assert seen["state"] not in {"FAILED", "CANCELLED"} - {state}, seen
        time.sleep(0.1)
    raise AssertionError(f"{job} is {seen['state']}, not {state}")


def curve(events: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm by step; each step was logged."""
    progress = [event.progress for event in read_events(events) if event.WhichOneof("body") == "progress"]
    return {one.step: (one.values["loss"], one.values["grad_norm"]) for one in progress if "loss" in one.values}


def test_a_job_is_submitted_followed_recorded_and_fetched(place: Path, served: Path, deepgen: Deepgen) -> None:
    done = deepgen("submit", "sentiment.yaml", "--num_ranks", "2", "--id", "first-one", "-f")
    assert "SUCCEEDED" in done.stdout + done.stderr
    assert "first-one" in deepgen("jobs").stdout
    job = wait("first-one", "SUCCEEDED")
    recorded = job["mlflow"]
    assert isinstance(recorded, dict)
    assert recorded["link"] in deepgen("show", "first-one").stdout

    deepgen("fetch", "first-one")
    folder, kept = place / "first-one", served / "jobs" / "first-one" / "run"
    for name in ("metrics.json", "predict.txt", "model/model.safetensors", "events.jsonl"):
        assert (folder / name).read_bytes() == (kept / name).read_bytes()
    read = (
        "import sys; from mlflow import MlflowClient; print(MlflowClient(sys.argv[1]).get_run(sys.argv[2]).info.status)"
    )
    store = f"sqlite:///{served / 'mlflow.db'}"
    assert call([sys.executable, "-c", read, store, recorded["run_id"]], place).stdout.split() == ["FINISHED"]
    deepgen("predict", "--from", str(folder / "model"), "--predict_dir", "eval.tsv", "--tracking", "false")


def test_a_suspended_job_goes_on_as_if_nothing_had_happened(place: Path, served: Path, deepgen: Deepgen) -> None:
    options = ["--num_ranks", "2", "--zero_stage", "3", "--max_steps", "100", "--logging_steps", "1"]
    options += ["--do_eval", "false", "--do_predict", "false", "--tracking", "false"]
    deepgen("submit", "sentiment.yaml", *options, "--id", "broken")
    wait("broken", "RUNNING", 5)
    assert main(["suspend", "broken"]) == 0  # at once, before it is over
    assert int(str(wait("broken", "SUSPENDED")["attempt"])) == 1
    deepgen("resume", "broken")
    deepgen("run", "sentiment.yaml", *options)  # the same without a break, and without a controller
    assert int(str(wait("broken", "SUCCEEDED")["attempt"])) == 2
    folders = [place / "runs" / "sentiment", served / "jobs" / "broken" / "run"]
    whole, broken = (curve(folder / "events.jsonl") for folder in folders)
    assert whole == broken
    assert sorted(whole) == list(range(1, 101))
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
