"""Sentence BLEU against nltk's sentence_bleu with method 1, over the same tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.bleu_sentence import BleuSentence

RANDOM = np.random.default_rng(3)
WORDS = np.array(["The", "cat", "sat", "on", "a", "mat"])
TEXTS = [" ".join(RANDOM.choice(WORDS, RANDOM.integers(0, 12))) for _ in range(200)]
REFERENCES = [" ".join(RANDOM.choice(WORDS, RANDOM.integers(1, 12))) for _ in range(200)]


def bleu(texts: list[list[str]], references: list[str], **options: Any) -> float:
    metric = BleuSentence(**options)
    predictions = Predictions(np.arange(len(texts)), "text", texts=texts, references=references)
    return metric.compute(metric.update(predictions))["bleu_sentence"]


@pytest.mark.parametrize("separator", [None, " sat "])
def test_is_the_mean_of_nltk(separator: str | None) -> None:
    score = pytest.importorskip("nltk.translate.bleu_score")  # rouge-score brings nltk along
    smooth = score.SmoothingFunction().method1
    answers = [reference.split(separator) if separator else [reference] for reference in REFERENCES]
    each = [
        score.sentence_bleu(
            [answer.lower().split() for answer in right], text.lower().split(), smoothing_function=smooth
        )
        for text, right in zip(TEXTS, answers, strict=True)
    ]
    assert min(each) == 0 < max(each)
    found = bleu([[text] for text in TEXTS], REFERENCES, bleu_tokenize="none", reference_separator=separator)
    assert found == pytest.approx(np.mean(each), rel=1e-12)


def test_is_what_nltk_gave() -> None:
    """By nltk 3.10.4, each pair alone: text, reference, score."""
    golden = [
        ("the cat sat on the mat", "the cat is on the mat today", 0.2150625426),
        ("a quick brown fox jumped over dogs", "the quick brown fox jumps over the lazy dogs", 0.1395873430),
        ("it is", "it is what it is", 0.0705599521),
        ("to be or not to be that is it", "to be or not to be that is the question", 0.7725505949),
        ("nothing shared", "all other words", 0),
        ("one", "one", 0.1778279410),
    ]
    for text, reference, score in golden:
        assert bleu([[text]], [reference]) == pytest.approx(score, abs=1e-9)


def test_is_the_closed_formula() -> None:
    """5 of 6 words, 3 of 5 pairs, 1 of 4 triples, none of 3 fours, one word too few; case does not count."""
    wanted = math.exp(1 - 7 / 6) * (5 / 6 * 3 / 5 * 1 / 4 * 0.1 / 3) ** 0.25
    assert bleu([["THE cat sat by the mat"]], ["the cat sat on the mat ."]) == pytest.approx(wanted, rel=1e-12)


def test_the_best_candidate_counts_unless_the_first_is_wanted() -> None:
    texts, references = [["one two", "one two three four five"], ["six"]], ["one two three four five", "seven"]
    assert bleu(texts, references) == pytest.approx(0.5)
    assert bleu(texts, references, best_of_candidates=False) < 0.1


def test_nothing_in_common_is_0() -> None:
    assert bleu([["x y z w"], [""], []], ["a b c d", "a", "b"]) == 0
