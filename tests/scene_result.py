"""Says in one line what a run folder holds, and refuses one that is not whole: python tests/scene_result.py FOLDER."""

import json
import math
import sys
from pathlib import Path

from deepgen.kernel.events import read_events

SHOWN = 6
"""How many scores a line has: those of each class would fill a page."""


def summary(folder: Path) -> str:
    """Scores and rows of a finished run, such as `eval_acc 0.883 eval_loss 0.304, 300 rows predicted`.

    Raises:
        ValueError: the run has not succeeded, a score is no number, rows are missing, or a part of the folder is.
    """
    events = list(read_events(folder / "events.jsonl"))
    if events[-1].finished.state != events[-1].finished.SUCCEEDED:
        raise ValueError(f"{folder}: the run has not succeeded")
    scores = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    if not scores or not all(math.isfinite(score) for score in scores.values()):
        raise ValueError(f"{folder}/metrics.json: {scores}")
    if not (folder / "model" / "config.json").is_file():
        raise ValueError(f"{folder}/model: no model")
    shown = list(scores.items())[:SHOWN]
    said = " ".join(f"{name.removeprefix('eval_')} {score:.3f}" for name, score in shown)
    rows = {event.data_set.split: event.data_set.rows for event in events if event.HasField("data_set")}
    for event in events:
        if event.HasField("predicted"):
            if event.predicted.rows != rows["predict"] or not Path(event.predicted.path).stat().st_size:
                raise ValueError(f"{event.predicted.path}: {event.predicted.rows} of {rows['predict']} rows")
            said += f", {event.predicted.rows} rows predicted"
    if "predict" in rows and "predicted" not in said:
        raise ValueError(f"{folder}: nothing was predicted")
    return said


if __name__ == "__main__":
    try:
        print(summary(Path(sys.argv[1])))
    except (OSError, ValueError) as problem:
        print(problem)
        sys.exit(1)
