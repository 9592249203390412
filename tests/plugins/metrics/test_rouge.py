"""ROUGE against rouge-score."""

from __future__ import annotations

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.rouge import Rouge

TEXTS = ["The cats were sitting on the mat.\nIt rained.", "police killed the gunman", "", "Überraschung"]
REFERENCES = ["It rained.\nThe cat sat on the mats.", "police kill the gunman", "nothing", "Überraschung"]
KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge(texts: list[str], references: list[str], stemmer: bool, separator: str | None = None) -> dict[str, float]:
    metric = Rouge(stemmer, separator)
    rows = np.arange(len(texts))
    return metric.compute(
        metric.update(Predictions(rows, "text", texts=[[t, "x"] for t in texts], references=references))
    )


@pytest.mark.parametrize("stemmer", [False, True])
def test_is_the_mean_f_of_rouge_score(stemmer: bool) -> None:
    scorer = RougeScorer(list(KEYS), use_stemmer=stemmer)
    each = [scorer.score(reference, text) for text, reference in zip(TEXTS, REFERENCES, strict=True)]
    found = rouge(TEXTS, REFERENCES, stemmer)
    assert found == {key: pytest.approx(np.mean([one[key].fmeasure for one in each])) for key in KEYS}
    assert found["rougeLsum"] > found["rougeL"] > 0


def test_the_main_key_is_rouge1() -> None:
    assert Rouge().keys() == KEYS


def test_each_key_takes_its_best_candidate_where_that_is_asked_for() -> None:
    """The first has all words and no pair in common, the second a pair but not all words."""
    texts, references = [["d b a c", "a b x y"], []], ["a b c d", "a"]
    predictions = Predictions(np.arange(2), "text", texts=texts, references=references)
    metric = Rouge(best_of_candidates=True)
    found = metric.compute(metric.update(predictions))
    assert found["rouge1"] == 1 / 2
    assert found["rouge2"] == pytest.approx(1 / 3 / 2)
    assert Rouge().compute(Rouge().update(predictions))["rouge2"] == 0


def test_long_texts_are_not_cut() -> None:
    """The original cut at 665 bytes: 120 equal of 400 words scored 0.72."""
    equal = [f"word{i}" for i in range(120)]
    text, reference = ([*equal, *(f"{side}{i}" for i in range(280))] for side in "ab")
    assert rouge([" ".join(text)], [" ".join(reference)], False)["rouge1"] == pytest.approx(0.3)


def test_the_best_of_several_references_counts() -> None:
    assert rouge(["a b"], ["c d | a b"], False, " | ")["rouge1"] == 1
