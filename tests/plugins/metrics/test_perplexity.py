"""Perplexity by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.perplexity import Perplexity


def test_is_the_exponential_of_the_mean_loss_of_a_token() -> None:
    more = {"masked_loss": np.array([3.0, 0.0, 1.5], np.float32), "masked_tokens": np.array([2, 0, 1])}
    metric = Perplexity()
    found = metric.compute(metric.update(Predictions(np.arange(3), "masked_text", more=more)))
    assert found == {"perplexity": pytest.approx(math.exp(4.5 / 3))}
    assert not metric.higher_is_better


def test_without_a_hidden_token_and_with_a_huge_loss() -> None:
    metric = Perplexity()
    assert math.isnan(metric.compute({"masked_loss": np.zeros(2), "masked_tokens": np.zeros(2, int)})["perplexity"])
    huge = {"masked_loss": np.array([1e4]), "masked_tokens": np.array([1])}
    assert metric.compute(huge) == {"perplexity": math.inf}
