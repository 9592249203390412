"""BLEU against sacrebleu."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sacrebleu

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.bleu import Bleu

TEXTS = [
    "The cat sat on the mat, didn't it?",
    "a quick brown fox jumped over lazy dogs",
    "",
    " short ",
    "Überraschung am Freitag: 3.5 Prozent mehr.",
]
REFERENCES = [
    "The cat sat on a mat, did it not?",
    "A quick brown fox jumps over the lazy dogs",
    "nothing was said",
    "short",
    "Überraschung am Freitag: 3,5 Prozent mehr.",
]


def bleu(texts: list[str], references: list[str], **options: Any) -> float:
    metric = Bleu(**options)
    rows = np.arange(len(texts))
    candidates = [[text, "another candidate that does not count"] for text in texts]
    return metric.compute(metric.update(Predictions(rows, "text", texts=candidates, references=references)))["bleu"]


@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_is_that_of_sacrebleu(tokenize: str, lowercase: bool) -> None:
    found = bleu(TEXTS, REFERENCES, bleu_tokenize=tokenize, bleu_lowercase=lowercase)
    wanted = sacrebleu.corpus_bleu(TEXTS, [REFERENCES], tokenize=tokenize, lowercase=lowercase).score
    assert wanted > 10
    assert found == pytest.approx(wanted, rel=1e-12)


def test_smoothing_is_that_of_sacrebleu() -> None:
    texts, references = ["one two three four five"], ["one two nine four five"]
    wanted = sacrebleu.corpus_bleu(texts, [references]).score
    assert 0 < bleu(texts, references) == pytest.approx(wanted, rel=1e-12)


def test_several_references() -> None:
    references = ["a b c d e", "the cat is on the mat", "x y z w"]
    others = ["a b x d e f", "there is a cat on the mat", "x y z w v"]
    texts = ["a b c d e f", "the cat on the mat", "x y z w"]
    both = [f"{one} ||| {other}" for one, other in zip(references, others, strict=True)]
    wanted = sacrebleu.corpus_bleu(texts, [references, others]).score
    assert bleu(texts, both, reference_separator=" ||| ") == pytest.approx(wanted, rel=1e-12)


def test_the_best_of_the_candidates_counts_where_it_is_asked_for() -> None:
    """That of the greatest sentence BLEU; its counts are then those of the corpus."""
    texts = [["a b x y", "a b c d e"], ["one two three four", "one"], [], ["", "the mat"]]
    references = ["a b c d e f", "one two three four five", "nothing", "on the mat"]
    best = ["a b c d e", "one two three four", "", "the mat"]
    metric = Bleu(best_of_candidates=True)
    predictions = Predictions(np.arange(4), "text", texts=texts, references=references)
    found = metric.compute(metric.update(predictions))["bleu"]
    assert found == pytest.approx(sacrebleu.corpus_bleu(best, [references]).score, rel=1e-12)
    first = Bleu().compute(Bleu().update(predictions))["bleu"]
    assert first < found


def test_the_same_text_is_100_and_nothing_at_all_is_0() -> None:
    assert bleu(TEXTS[:2], TEXTS[:2]) == pytest.approx(100)
    assert bleu([""], ["a b c d"]) == 0
