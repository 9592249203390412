"""A stand-in for rank 0: `tracked_rank.py FOLDER END ADDRESS` sends the events of a short run and ends as it is told.

END is succeeded, lean (succeeded, with log_model off), failed, interrupted or killed (by SIGKILL).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from deepgen.kernel import figures, tracking
from deepgen.kernel.events import EventStream


def main(folder: Path, end: str, address: str) -> None:
    """Sends ten steps, two evaluations and what follows."""
    events = EventStream(folder)
    (folder / "scene.yaml").write_text("name: sentiment\n")
    settings = tracking.TrackingSettings(
        mlflow_tracking_uri=address, experiment_name=f"test {end}", log_model=end != "lean"
    )
    end = "succeeded" if end == "lean" else end
    record = folder / "log" / "mlflow.json"
    first = 10 if record.exists() else 0
    tracker = tracking.start(folder, settings)
    assert tracker is not None
    assert record.exists() == bool(first), "nobody waits for MLflow"
    events.started(
        scene="sentiment",
        ranks=2 if first == 0 else 1,
        device="cpu",
        dtype="float32",
        zero_stage=1,
        output_dir=folder,
        resumed_step=first,
        parameters={**{f"setting_{n}": n for n in range(120)}, "num_ranks": 2 if first == 0 else 1, "long": "x" * 9000},
    )
    events.data_set("train", path="data/train.tsv", rows=800, digest="d" * 40, bad_rows=1)
    for step in range(first + 1, first + 11):
        values = {"loss": 1 / step, "learning_rate": 1e-4}
        events.progress("train", step, first + 10, step=step, rows_per_second=50, tokens_per_second=900, values=values)
        if step % 5 == 0:
            scores = {"eval_auc": 0.9 + step / 1000, "eval_loss": 0.3, "eval_auc_R&B": 0.8}
            events.scored("eval", scores, step=step, best=True)
    if end == "killed":
        # As in a run that lasts: the tracker is at work when the signal comes.
        until = time.monotonic() + 120
        while not record.exists() and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "succeeded":
        _leave_results(folder)
        events.saved("model", folder / "model", step=10)
        events.predicted(folder / "result.tsv", rows=1, rows_per_second=20)
    (folder / "log" / "rank_0.log").write_text("a traceback\n")
    events.finished(end, "" if end == "succeeded" else "the disk is full", seconds=12)  # type: ignore[arg-type]
    print(tracker.finish(timeout=120))


def _leave_results(folder: Path) -> None:
    labels = np.array([0, 1] * 20)
    scores = np.stack([-labels, labels], axis=1) + np.random.default_rng(0).normal(size=(40, 2))
    names = ["bad", "good"]
    figures.save_evaluation(folder / figures.EVALUATION, scores, labels, names, "single_label_classification")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "result.tsv").write_text("good\t0.9\n")
    (folder / "metrics.json").write_text(json.dumps({"eval_auc": 0.91, "eval_loss": 0.3}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
