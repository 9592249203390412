"""A scene end to end: real ranks, a real MLflow store, and what a person finds afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from deepgen.kernel.events import read_events

from .conftest import Deepgen, Finished, at_once, call

SCORES = ("eval_loss", "eval_auc", "eval_acc")


def _scores(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "metrics.json").read_text()))


def _mlflow_run(place: Path) -> Any:
    """The run as MLflow has it, once it is over; on a crowded machine the recorder may still be at work."""
    from mlflow import MlflowClient

    store = place / "mlflow.db"
    until = time.monotonic() + 180
    while not store.exists() and time.monotonic() < until:
        time.sleep(0.5)
    client = MlflowClient(f"sqlite:///{store}")
    while time.monotonic() < until:
        runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        if runs and runs[0].info.status != "RUNNING":
            (run,) = runs
            return run
        time.sleep(0.5)
    raise AssertionError("the run is not over in MLflow")


def _no_noise(text: str) -> None:
    for word in ("Traceback", "Warning", "WARNING", "[INFO]", "deepspeed", "site-packages"):
        assert word not in text


def test_two_ranks_leave_a_whole_run_folder(classifier: Finished) -> None:
    place, folder = classifier.place, classifier.folder
    _no_noise(classifier.said)
    assert "auc" in classifier.said
    assert "predict.txt" in classifier.said

    assert tuple(sorted(_scores(folder))) == tuple(sorted(SCORES))
    rows = (place / "eval.tsv").read_text().splitlines()
    result = (folder / "predict.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in result] == [row.split("\t")[0] for row in rows]
    for line in result:
        assert sum(float(number) for number in line.split("\t")[1].split(",")) == pytest.approx(1, abs=1e-5)

    events = list(read_events(folder / "events.jsonl"))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].finished.state == events[-1].finished.SUCCEEDED
    resolved = yaml.safe_load((folder / "scene.yaml").read_text())
    assert resolved["learning_rate"] == 0.001
    assert {path.name for path in folder.iterdir()} == {
        *("checkpoints", "events.jsonl", "log", "metrics.json", "model", "predict.txt", "scene.yaml")
    }

    run = _mlflow_run(place)
    assert run.info.status == "FINISHED"
    assert float(run.data.params["learning_rate"]) == 0.001

    from transformers import pipeline

    classify: Any = pipeline("text-classification", str(folder / "model"), top_k=None)
    text = rows[0].split("\t")[0]
    best = {answer["label"]: answer["score"] for answer in classify([text])[0]}
    scores = [float(number) for number in result[0].split("\t")[1].split(",")]
    assert sorted(best.values()) == pytest.approx(sorted(scores), abs=1e-4)


def test_the_model_folder_is_enough_for_any_number_of_ranks(
    place: Path, deepgen: Deepgen, classifier: Finished
) -> None:
    model = place / "moved"
    shutil.copytree(classifier.model, model)
    commands = []
    for ranks in (1, 2, 3):
        settings = {"do_train": "false", "model": model, "num_ranks": ranks, "output_dir": f"out-{ranks}"}
        settings |= {"keep_rank_files": "true", "per_device_eval_batch_size": 8, "tracking": "false"}
        given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        commands.append(["run", str(model / "scene.yaml"), *given])
    at_once(deepgen, *commands)
    evaluated = {}
    for ranks in (1, 2, 3):
        out = place / f"out-{ranks}"
        evaluated[ranks] = (_scores(out), (out / "predict.txt").read_bytes())
        parts = [(out / f"predict.txt_{rank}").read_text().splitlines() for rank in range(ranks)]
        assert sorted(line for part in parts for line in part) == sorted((out / "predict.txt").read_text().splitlines())
    # equal to the last bit, and not only nearly
    assert evaluated[1] == evaluated[2] == evaluated[3]


def test_more_ranks_than_rows_and_no_rows_at_all(place: Path, deepgen: Deepgen, classifier: Finished) -> None:
    moved = place / "moved"
    shutil.copytree(classifier.model, moved)
    scene = moved / "scene.yaml"
    scene.write_text(scene.read_text().replace(str(classifier.place), str(place)))
    for name in ("train.tsv", "eval.tsv"):  # it does not need what it has learned from
        assert f"{place / name}" in scene.read_text()
        (place / name).unlink()
    (place / "two.tsv").write_text("good\nbad\n")
    (place / "zero.tsv").touch()
    predict = ("predict", "--from", "moved", "--predict_header", "text", "--num_ranks", "3")
    for name, rows in (("two", 2), ("zero", 0)):
        done = deepgen(*predict, "--predict_dir", f"{name}.tsv", "--output_dir", name)
        _no_noise(done.stderr)
        assert len((place / name / "predict.txt").read_text().splitlines()) == rows


def test_one_process_without_a_launcher(place: Path, classifier: Finished) -> None:
    shutil.copytree(classifier.folder, place / "runs" / "sentiment")
    command = [sys.executable, "-m", "deepgen.kernel.worker", "--scene", "sentiment.yaml", "--tracking", "false"]
    call([*command, "--max_steps", "2"], place)
    # a finished run is kept: the next one gets a folder of its own
    assert set(_scores(place / "runs" / "sentiment-2")) == set(SCORES)
    assert _scores(place / "runs" / "sentiment") == _scores(classifier.folder)


@pytest.mark.parametrize(("name", "stage"), [("pronounce", "2"), ("spell_on", "1"), ("spell_on", "3"), ("guided", "2")])
def test_text_is_generated_and_scored(place: Path, deepgen: Deepgen, decoder: Finished, name: str, stage: str) -> None:
    if stage == "1":
        folder = decoder.folder
    else:
        deepgen("run", f"{name}.yaml", "--num_ranks", "2", "--tracking", "false", "--zero_stage", stage)
        folder = place / "runs" / name
    scores = _scores(folder)
    assert {"eval_loss", "eval_token_error_rate", "eval_bleu"} <= set(scores)
    assert 0 < scores["eval_loss"] < 6
    lines = [line.split("\t") for line in (folder / "predict.txt").read_text().splitlines()]
    words = [row.split("\t")[0] for row in (place / "words_eval.tsv").read_text().splitlines()]
    assert [line[0] for line in lines] == [word for word in words for _ in range(2)]
    assert [line[2] for line in lines] == ["0", "1"] * len(words)
    again = place / "again.txt"
    deepgen("predict", "--from", str(folder), "--predict_dir", "words_eval.tsv", "--result_file", str(again))
    assert again.read_text() == (folder / "predict.txt").read_text()


def test_ctrl_c_leaves_a_checkpoint_and_the_run_goes_on(place: Path, deepgen: Deepgen) -> None:
    options = ["--num_ranks", "2", "--logging_steps", "1", "--num_train_epochs", "4", "--do_predict", "false"]
    command = [sys.executable, "-m", "deepgen.controller.cli", "run", "sentiment.yaml", *options]
    process = subprocess.Popen(
        command, cwd=place, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    events = place / "runs" / "sentiment" / "events.jsonl"
    _wait_for_step(events, 5)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    assert "Traceback" not in words
    assert list((place / "runs" / "sentiment" / "checkpoints").glob("step-*"))
    assert _mlflow_run(place).info.status == "KILLED"

    whole = ["run", "sentiment.yaml", *options, "--output_dir", "whole", "--tracking", "false"]
    at_once(deepgen, ["run", "sentiment.yaml", *options], whole)
    assert _mlflow_run(place).info.status == "FINISHED"
    folder = place / "runs" / "sentiment"
    assert _scores(folder) == _scores(place / "whole")
    assert _curve(events) == _curve(place / "whole" / "events.jsonl")


@pytest.mark.parametrize("reached", ["every rank", "one rank"])
def test_ctrl_c_twice_ends_at_once(place: Path, reached: str) -> None:
    command = [sys.executable, "-m", "deepgen.controller.cli", "run", "sentiment.yaml", "--num_ranks", "2"]
    process = subprocess.Popen(
        [*command, "--num_train_epochs", "1000", "--logging_steps", "1"],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    _wait_for_step(place / "runs" / "sentiment" / "events.jsonl", 2)
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(ranks) == 2
    process.send_signal(signal.SIGINT)
    if reached == "every rank":
        process.send_signal(signal.SIGINT)
    else:  # two signals that come at once can be one: the other rank then sees nothing but a lost connection
        os.kill(int(ranks[0]), signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130, words
    assert "stopped" in words
    assert "failed" not in words
    assert _mlflow_run(place).info.status == "KILLED"


def _wait_for_step(events: Path, step: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if events.exists() and f'"step": "{step}"' in events.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached")


def _curve(path: Path) -> dict[int, float]:
    """Loss by step; each step was logged."""
    progress = [event.progress for event in read_events(path) if event.WhichOneof("body") == "progress"]
    return {one.step: one.values["loss"] for one in progress if "loss" in one.values}


FAILING = """
from dataclasses import dataclass
import os
from deepgen.kernel.registry import trainer
from deepgen.plugins.trainers.common import Common

@trainer("failing")
@dataclass
class Failing(Common):
    \"\"\"Fails on one rank.\"\"\"
    def step(self, run, micro_batches):
        if run.engine.rank == 1:
            raise ValueError("the disk of rank 1 is on fire")
        return super().step(run, micro_batches)
"""


def test_a_rank_that_fails_is_named_once(place: Path, deepgen: Deepgen) -> None:
    (place / "failing.py").write_text(FAILING)
    done = deepgen(
        "run", "sentiment.yaml", "--num_ranks", "2", "--plugin", "failing.py", "--trainer", "failing", exits=1
    )
    assert "Traceback" not in done.stderr
    assert "rank 1 failed: ValueError: the disk of rank 1 is on fire" in done.stderr
    run = _mlflow_run(place)
    assert run.info.status == "FAILED"
    assert "on fire" in run.data.tags["reason"]


def test_a_bad_row_is_named_by_file_and_line(place: Path, deepgen: Deepgen) -> None:
    with (place / "train.tsv").open("a") as file:
        file.write("what a film\tgood\n")
    done = deepgen("run", "sentiment.yaml", "--num_ranks", "2", "--tracking", "false", exits=2)
    assert "train.tsv:204" in done.stderr
    assert "'good'" in done.stderr
    assert "Traceback" not in done.stderr
    deepgen("run", "sentiment.yaml", "--bad_rows", "quarantine", "--max_steps", "1", "--tracking", "false")
    rejects = (place / "runs" / "sentiment" / "rejects.tsv").read_text()
    assert "204" in rejects
    assert "good" in rejects


# ZeRO 3, where no rank has a whole weight; test_lora.py saves in one, and test_twins.py at ZeRO 2
@pytest.mark.parametrize(
    ("name", "stage", "kept"), [("sentiment", "3", "merged"), ("spell_on", "3", "adapter"), ("guided", "2", "adapter")]
)
def test_lora_learns_is_saved_and_predicts(
    place: Path, deepgen: Deepgen, classifier: Finished, decoder: Finished, name: str, stage: str, kept: str
) -> None:
    pytest.importorskip("peft")
    finished = {"sentiment": classifier, "spell_on": decoder}.get(name)
    if finished is None:
        deepgen("run", f"{name}.yaml", "--max_steps", "2", "--tracking", "false", "--name", "base")
    base = str(place / "runs" / "base" / "model") if finished is None else finished.model
    settings = {"use_peft": "true", "lora_rank": "4", "lora_save": kept, "zero_stage": stage, "tracking": "false"}
    given = [word for key, value in settings.items() for word in (f"--{key}", value)]
    done = deepgen("run", f"{name}.yaml", "--model", base, "--num_ranks", "2", *given)
    assert "weights learn" in done.stderr
    folder = place / "runs" / name
    assert (folder / "model" / "adapter_config.json").exists() == (kept == "adapter")
    assert (folder / "model" / "model.safetensors").exists() == (kept == "merged")
    again, file = place / "again.txt", "eval.tsv" if name == "sentiment" else "words_eval.tsv"
    deepgen("predict", "--from", str(folder), "--predict_dir", file, "--result_file", str(again))
    rows = [[line.split("\t") for line in text.read_text().splitlines()] for text in (folder / "predict.txt", again)]
    if name != "sentiment":
        assert rows[0] == rows[1]
    for run, alone in zip(*rows, strict=True):
        if name == "sentiment":  # the merged weights give the scores to rounding
            assert [float(n) for n in run[1].split(",")] == pytest.approx(
                [float(n) for n in alone[1].split(",")], abs=1e-4
            )
