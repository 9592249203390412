"""Legacy ROUGE: closed values, stems, the best of the candidates, and no cut."""

from __future__ import annotations

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.rouge_legacy import RougeLegacy


def rouge(texts: list[list[str]], references: list[str], metric: RougeLegacy | None = None) -> dict[str, float]:
    metric = metric or RougeLegacy()
    predictions = Predictions(np.arange(len(texts)), "text", texts=texts, references=references)
    return metric.compute(metric.update(predictions))


def test_is_the_harmonic_mean_of_precision_and_recall() -> None:
    """Of 3 words and 4: 3 words in common, 1 of 2 and 3 pairs, a common sequence of 2."""
    found = rouge([["Police killed gunman"]], ["the gunman police killed"])
    assert found == {
        "legacy_rouge1": pytest.approx(2 * 3 / 7),
        "legacy_rouge2": pytest.approx(2 * 1 / 5),
        "legacy_rougeL": pytest.approx(2 * 2 / 7),
    }


def test_is_what_py_rouge_gave() -> None:
    """By py-rouge 1.1 with stems, alpha 0.5 and no cut, each pair alone: text, reference, ROUGE-1, -2 and -L."""
    golden = [
        ("the cat sat on the mat", "the cat is on the mat today", 0.7692307692, 0.5454545455, 0.7692307692),
        (
            "a quick brown fox jumped over dogs",
            "the quick brown fox jumps over the lazy dogs",
            0.75,
            0.5714285714,
            0.75,
        ),
        ("it is", "it is what it is", 0.5714285714, 0.4, 0.5714285714),
        (
            "to be or not to be that is it",
            "to be or not to be that is the question",
            0.8421052632,
            0.8235294118,
            0.8421052632,
        ),
        ("nothing shared", "all other words", 0, 0, 0),
        ("one", "one", 1, 0, 1),
    ]
    for text, reference, *scores in golden:
        assert list(rouge([[text]], [reference]).values()) == pytest.approx(scores, abs=1e-9)


def test_stems_are_compared() -> None:
    assert rouge([["the cats were jumping"]], ["The cat were jumped"])["legacy_rouge2"] == 1


def test_long_texts_are_not_cut() -> None:
    """The original cut at 665 bytes: 120 equal of 400 words scored 0.72."""
    equal = [f"word{i}" for i in range(120)]
    text, reference = ([*equal, *(f"{side}{i}" for i in range(280))] for side in "ab")
    assert rouge([[" ".join(text)]], [" ".join(reference)])["legacy_rouge1"] == pytest.approx(0.3)


def test_each_key_takes_its_best_candidate() -> None:
    """The first has all words and no pair in common, the second a pair but not all words."""
    texts, references = [["d b a c", "a b x y"], []], ["a b c d", "a"]
    found = rouge(texts, references)
    assert found["legacy_rouge1"] == 1 / 2
    assert found["legacy_rouge2"] == pytest.approx(1 / 3 / 2)
    first = rouge(texts, references, RougeLegacy(best_of_candidates=False))
    assert first["legacy_rouge1"] == 1 / 2
    assert first["legacy_rouge2"] == 0


def test_the_best_of_several_references_counts() -> None:
    assert rouge([["a b"]], ["c d | a b"], RougeLegacy(" | "))["legacy_rougeL"] == 1
