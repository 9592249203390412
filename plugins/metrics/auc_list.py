"""AUC of each class, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...kernel.contracts import State
from ...kernel.registry import metric
from .auc import Auc, areas, mean_of_defined


@metric("auc_list")
@dataclass
class AucList(Auc):
    """Area under the ROC curve of each class, as `auc_list_NAME` (its index where classes have no names).

    `auc_list` is the mean of those that are defined, the same number as `auc`. A class that no row has, or that every
    row has, is nan. One or two logits: both classes have the same area.
    """

    def keys(self) -> tuple[str, ...]:
        return ("auc_list",)

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        each = areas(state)
        names = class_names if len(class_names) == len(each) else [str(index) for index in range(len(each))]
        scores = {f"auc_list_{name}": float(area) for name, area in zip(names, each, strict=True)}
        return {"auc_list": mean_of_defined(each), **scores}
