"""Mean squared error against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error

from deepgen.kernel.contracts import Predictions
from deepgen.plugins.metrics.mse import MeanSquaredError

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_is_that_of_scikit_learn(shape: tuple[int, ...]) -> None:
    labels = RANDOM.normal(size=shape).astype(np.float32)
    scores = RANDOM.normal(size=labels.reshape(50, -1).shape).astype(np.float32)
    metric = MeanSquaredError()
    found = metric.compute(metric.update(Predictions(np.arange(50), "regression", scores, labels=labels)))
    wanted = mean_squared_error(labels.reshape(50, -1).astype(float), scores.astype(float))
    assert found == {"mse": pytest.approx(wanted, rel=1e-12)}


def test_less_is_better() -> None:
    assert not MeanSquaredError.higher_is_better
