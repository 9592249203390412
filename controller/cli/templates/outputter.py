"""Outputter `my_outputter`: the result columns, the likeliest class and its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from deepgen.kernel.contracts import Outputter, Predictions, Problem
from deepgen.kernel.options import Range
from deepgen.kernel.registry import outputter
from deepgen.plugins.outputters.score import escape


@outputter("my_outputter")
@dataclass
class MyOutputter(Outputter):
    """Divided by TAB, one row a line, without a header line."""

    fits = frozenset({"single_label_classification"})

    probability_digits: Annotated[int, Range(1, 9)] = 3
    """Digits after the point."""

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "class", "probability")

    def format(self, predictions: Predictions) -> list[str]:
        import numpy as np

        assert predictions.scores is not None, "a classifier gives scores"
        scores = predictions.scores
        if scores.shape[1] == 1:  # one logit is that of class 1
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        best = scores.argmax(axis=1)
        names = predictions.class_names if len(predictions.class_names) == scores.shape[1] else range(scores.shape[1])
        shown = [str(names[number]) for number in best]
        sure = [f"{number:.{self.probability_digits}f}" for number in raised.max(axis=1) / raised.sum(axis=1)]
        columns = [escape(column) for column in predictions.columns.values()]
        return ["\t".join(cells) + "\n" for cells in zip(*columns, shown, sure, strict=True)]
