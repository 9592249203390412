"""`self_bleu` against sacrebleu's corpus score of each text with the others of its row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sacrebleu

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.self_bleu import SelfBleu

ROWS = [
    ["The cat sat on the mat today", "a cat sat on the mat", "the dog lay on a Mat today"],
    ["one two three four five", "one two three nine five", "six seven one two three"],
]


def score(rows: list[list[str]], **options: Any) -> float:
    metric = SelfBleu(**options)
    return metric.compute(metric.update(Predictions(np.arange(len(rows)), "text", texts=rows)))["self_bleu"]


@pytest.mark.parametrize("lowercase", [False, True])
def test_is_the_corpus_score_of_sacrebleu(lowercase: bool) -> None:
    texts = [text for row in ROWS for text in row]
    others = [[row[:place] + row[place + 1 :] for place in range(3)] for row in ROWS]
    references = [[each[number] for row in others for each in row] for number in range(2)]
    wanted = sacrebleu.corpus_bleu(texts, references, lowercase=lowercase).score
    assert 10 < wanted < 90
    assert score(ROWS, bleu_lowercase=lowercase) == pytest.approx(wanted, rel=1e-12)
    assert score([*ROWS, ["this one text has no other"]], bleu_lowercase=lowercase) == pytest.approx(wanted)


def test_the_same_texts_are_100_and_strange_ones_low() -> None:
    assert score([["a b c d e"] * 3]) == pytest.approx(100)
    assert score([["a b c d e", "f g h i j"]]) == 0


def test_ranks_add_up() -> None:
    metric = SelfBleu()
    parts = [metric.update(Predictions(np.arange(1), "text", texts=[row])) for row in ROWS]
    assert metric.compute(metric.merge(parts))["self_bleu"] == score(ROWS)


def test_one_text_a_row_has_no_score() -> None:
    assert math.isnan(score([["a b c d"], ["e f g h"]]))
    assert math.isnan(SelfBleu().compute({})["self_bleu"])
