"""The record in MLflow: real runs of the tracker against a real SQLite store, ended in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel import mlflow_store, tracking
from deepgen.kernel.events import EventStream

RANK = Path(__file__).with_name("tracked_rank.py")
ENDS = ("succeeded", "lean", "failed", "interrupted", "killed")
CLOSED = "http://user:secret@127.0.0.1:9"
"""Nothing listens on the discard port."""


def _rank(folder: Path, end: str, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(RANK), str(folder), end, address]
    return subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with an MLflow store and a run folder for each end, all run at the same time; and what each run said."""
    place = tmp_path_factory.mktemp("store")
    ranks = {end: _rank(place / end, end, "sqlite:///mlflow.db") for end in ENDS}
    ranks["unreachable"] = _rank(place / "unreachable", "succeeded", CLOSED)
    said = {end: rank.communicate(timeout=240)[0] for end, rank in ranks.items()}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not all(_status(place, end) for end in ENDS):
        time.sleep(0.2)
    return place, said


def _status(place: Path, end: str) -> str:
    """The status of a run that has ended, or an empty string."""
    if not (place / end / mlflow_store.STATE).exists():
        return ""
    status = str(_run(place, end).info.status)
    return "" if status == "RUNNING" else status


def _run(place: Path, end: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    return client.get_run(mlflow_store.read_state(place / end)["run_id"])


def _history(place: Path, end: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    history = client.get_metric_history(mlflow_store.read_state(place / end)["run_id"], name)
    return sorted((metric.step, metric.value) for metric in history)


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        ("succeeded", "FINISHED", None),
        ("lean", "FINISHED", None),
        ("failed", "FAILED", "the disk is full"),
        ("interrupted", "KILLED", "the disk is full"),
        ("killed", "KILLED", "the process of rank 0 was killed"),
    ],
)
def test_a_run_ends_in_the_right_state(
    store: tuple[Path, dict[str, str]], end: str, status: str, reason: str | None
) -> None:
    place, said = store
    assert _status(place, end) == status
    assert _run(place, end).data.tags.get("reason") == reason
    assert ("mlflow.db; `deepgen ui` shows it" in said[end]) == (end != "killed")


@pytest.mark.parametrize("end", ENDS)
def test_every_metric_of_the_stream_is_there_with_its_step(store: tuple[Path, dict[str, str]], end: str) -> None:
    place, _ = store
    assert _history(place, end, "train/loss") == [(step, 1 / step) for step in range(1, 11)]
    assert _history(place, end, "eval/auc") == [(5, 0.905), (10, 0.91)]
    assert _history(place, end, "eval/auc_R_B") == [(5, 0.8), (10, 0.8)]
    assert [step for step, _ in _history(place, end, "speed/tokens_per_second")] == list(range(1, 11))


def test_parameters_tags_and_data_sets(store: tuple[Path, dict[str, str]]) -> None:
    run = _run(store[0], "succeeded")
    assert run.data.params["setting_119"] == "119"
    assert len(run.data.params["long"]) == 6000
    assert run.data.tags["ranks"] == "2"
    assert run.data.tags["dtype"] == "float32"
    assert run.data.tags["deepgen_version"]
    assert run.info.run_name == "sentiment succeeded"
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, json.loads(data.dataset.profile)["num_rows"]) == ("train.tsv", 800)
    assert data.tags[0].value == "train"
    assert run.data.metrics["final/auc"] == 0.91
    assert "eval_auc | 0.9100" in run.data.tags["mlflow.note.content"]


def test_artifacts_lie_beside_the_store(store: tuple[Path, dict[str, str]]) -> None:
    place, _ = store
    root = place / "mlartifacts" / "test succeeded" / _run(place, "succeeded").info.run_id / "artifacts"
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert found == {
        *("scene.yaml", "metrics.json", "events.jsonl", "result.tsv", "model/config.json"),
        *(f"figures/{name}.png" for name in ("learning_curve", "confusion_matrix", "roc", "calibration")),
    }


def test_the_model_may_stay_where_it_is(store: tuple[Path, dict[str, str]]) -> None:
    place, _ = store
    root = place / "mlartifacts" / "test lean" / _run(place, "lean").info.run_id / "artifacts"
    assert (root / "result.tsv").exists()
    assert not (root / "model").exists()


def test_a_failed_run_brings_its_log_and_no_model(store: tuple[Path, dict[str, str]]) -> None:
    place, _ = store
    root = place / "mlartifacts" / "test failed" / _run(place, "failed").info.run_id / "artifacts"
    assert (root / "log" / "rank_0.log").exists()
    assert not (root / "model").exists()


def test_a_store_that_is_not_there_leaves_the_run_alone(store: tuple[Path, dict[str, str]]) -> None:
    place, said = store
    assert "not recorded: http://127.0.0.1:9: " in said["unreachable"]
    assert "Connection refused" in said["unreachable"]
    assert "warning: MLflow did not take the record" in (place / "unreachable" / tracking.LOG).read_text()
    assert "secret" not in said["unreachable"]


def test_a_late_record_does_not_load_mlflow_where_nobody_listens(store: tuple[Path, dict[str, str]]) -> None:
    folder = store[0] / "unreachable"
    before = (folder / tracking.LOG).read_text()
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "deepgen.kernel.tracking",
        str(folder),
        "FAILED",
        "it was killed",
    ]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": CLOSED}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == tracking.ABSENT, done.stderr
    assert "mlflow" not in {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (folder / tracking.LOG).read_text() == before


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(store: tuple[Path, dict[str, str]]) -> None:
    place, _ = store
    before = _run(place, "interrupted").info.run_id
    rank = _rank(place / "interrupted", "succeeded", "sqlite:///mlflow.db")
    assert "`deepgen ui` shows it" in rank.communicate(timeout=240)[0]
    run = _run(place, "interrupted")
    assert (run.info.run_id, run.info.status) == (before, "FINISHED")
    assert [step for step, _ in _history(place, "interrupted", "train/loss")] == list(range(1, 21))
    assert run.data.params["num_ranks"] == "2"
    assert run.data.tags["changed.num_ranks"] == "1"
    assert "reason" not in run.data.tags


def test_the_page_opens_on_the_store(store: tuple[Path, dict[str, str]]) -> None:
    from urllib.request import urlopen

    place, _ = store
    command = [sys.executable, "-m", "deepgen.controller.cli", "ui"]
    page = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert page.stdout is not None
    try:
        address = page.stdout.readline().partition("/#/")[0]
        assert page.stdout.readline() == f"shows the runs of {place / 'mlflow.db'}; Ctrl-C ends it\n"
        run_id = _run(place, "succeeded").info.run_id
        with urlopen(f"{address}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=60) as answer:
            assert json.load(answer)["run"]["info"]["status"] == "FINISHED"
        with urlopen(f"{address}/get-artifact?path=figures/roc.png&run_uuid={run_id}", timeout=60) as answer:
            assert answer.read().startswith(b"\x89PNG")
    finally:
        page.send_signal(signal.SIGINT)
    assert page.wait(120) == 0


def test_tracking_off_starts_nothing(tmp_path: Path) -> None:
    assert tracking.start(tmp_path, tracking.TrackingSettings(tracking=False)) is None
    assert list(tmp_path.iterdir()) == []


def test_waiting_for_the_record_has_an_end(tmp_path: Path) -> None:
    EventStream(tmp_path).finished("succeeded")
    tracker = tracking.start(tmp_path, tracking.TrackingSettings(mlflow_tracking_uri="http://127.0.0.1:9"))
    assert tracker is not None
    assert "still being recorded" in tracker.finish(timeout=0.05)


def test_the_store_is_the_setting_then_the_environment_then_a_file_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_store.store_address(None) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert mlflow_store.store_address(None) == "http://127.0.0.1:5000"
    assert mlflow_store.store_address("sqlite:///other.db") == f"sqlite:///{tmp_path / 'other.db'}"
