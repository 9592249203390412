"""`my_metric` by hand, and joined from the states of two ranks."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.kernel.registry import find, load_file

load_file(str(Path(__file__).with_name("my_metric.py")))


def score(scores: list[list[float]], labels: list[int], **options: Any) -> float:
    metric: Any = find("metric", "my_metric").plugin(**options)
    given = Predictions(
        np.arange(len(labels)), "single_label_classification", np.array(scores, np.float32), labels=np.array(labels)
    )
    return float(metric.compute(metric.update(given))["my_metric"])


def test_sure_and_right() -> None:
    logits = [[math.log(9), 0.0], [math.log(9), 0.0], [0.0, 0.0], [0.0, 3.0]]
    assert score(logits, [0, 1, 0, 1]) == 0.5
    assert score(logits, [0, 1, 0, 1], sure_from=0.5) == 0.75
    assert score([[3.0], [-3.0]], [1, 1]) == 0.5


def test_ranks_are_joined() -> None:
    metric: Any = find("metric", "my_metric").plugin()
    states = [{"hit": np.array([True])}, {"hit": np.array([False, False])}]
    assert metric.compute(metric.merge(states))["my_metric"] == pytest.approx(1 / 3)
    assert math.isnan(metric.compute({})["my_metric"])
