"""Masked accuracy by hand."""

from __future__ import annotations

import math

import numpy as np

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.masked_acc import MaskedAcc


def test_is_the_share_of_all_hidden_tokens() -> None:
    more = {"masked_right": np.array([2.0, 0.0, 1.0], np.float32), "masked_tokens": np.array([3, 0, 1])}
    metric = MaskedAcc()
    assert metric.compute(metric.update(Predictions(np.arange(3), "masked_text", more=more))) == {"masked_acc": 0.75}
    assert math.isnan(metric.compute({"masked_right": np.zeros(2), "masked_tokens": np.zeros(2, int)})["masked_acc"])
