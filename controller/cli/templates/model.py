"""Model `my_model`: one class of several for a text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from deepgen.kernel.contracts import Batch, Field, Labels, Loss, Model, Problem
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.options import Range
from deepgen.kernel.registry import model

if TYPE_CHECKING:
    import torch

    from deepgen.kernel.pretrained import Pretrained


@model("my_model")
@dataclass
class MyModel(Model):
    """Sequence classification over any Hugging Face architecture, with the cross-entropy as its loss."""

    label_smoothing: Annotated[float, Range(0, 1)] = 0.0
    """Share of the target that is spread evenly over all classes."""

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape) != ("int64", "scalar"):
            raise SceneError(f"{self.name} learns labels that are whole numbers; use convert2int in the model header")
        return "single_label_classification"

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        given: dict[str, Any] = {} if labels is None else {"num_labels": max(labels.size, 2)}
        module: Any = pretrained.load("AutoModelForSequenceClassification", **given)
        self._classes = int(module.config.num_labels)
        self._accepts = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        return module  # type: ignore[no-any-return]

    def count(self, batch: Batch) -> int:
        labels = batch["labels"]
        wrong = labels[(labels < 0) | (labels >= self._classes)]
        if len(wrong):
            raise DataError(f"label {int(wrong[0])} is not one of the model's classes, 0 to {self._classes - 1}")
        return len(labels)

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch.nn.functional as F

        scores, count = self._scores(module, batch), self.count(batch)
        total = F.cross_entropy(scores, batch["labels"], reduction="sum", label_smoothing=self.label_smoothing)
        return Loss(total, count, {"scores": scores.detach()})

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        return {"scores": self._scores(module, batch)}

    def _scores(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """[rows, classes] logits in float32, whatever the model computes in."""
        inputs = {name: value for name, value in batch.items() if name in self._accepts}
        scores: torch.Tensor = module(**inputs).logits.float()
        return scores
