"""`my_outputter`: one line a row, with the likeliest class."""

from pathlib import Path
from typing import Any

import numpy as np

from deepgen.kernel.contracts import Predictions
from deepgen.kernel.registry import find, load_file

load_file(str(Path(__file__).with_name("my_outputter.py")))


def lines(scores: list[list[float]], names: tuple[str, ...] = (), **options: Any) -> list[str]:
    outputter: Any = find("outputter", "my_outputter").plugin(**options)
    texts = [f"a\tb{number}" for number in range(len(scores))]
    given = Predictions(
        np.arange(len(scores)),
        "single_label_classification",
        np.array(scores, np.float32).reshape(len(scores), -1),
        class_names=names,
        columns={"text": texts},
    )
    assert len(outputter.columns("single_label_classification", ("text",))) == 3
    return list(outputter.format(given))


def test_lines() -> None:
    assert lines([[0.0, 0.0, 2.0], [9.0, 0.0, 0.0]]) == ["a\\tb0\t2\t0.787\n", "a\\tb1\t0\t1.000\n"]
    assert lines([[0.0, 0.0]], ("bad", "good"), probability_digits=1) == ["a\\tb0\tbad\t0.5\n"]
    assert lines([[1.0]], ("good",)) == ["a\\tb0\t1\t0.731\n"]
