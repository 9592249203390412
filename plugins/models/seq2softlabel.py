"""Model `seq2softlabel`: a classifier that learns the probability of each class, such as a teacher model gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from ...kernel.contracts import Batch, Field, Labels, Loss, Problem
from ...kernel.errors import DataError, SceneError
from ...kernel.options import Range
from ...kernel.registry import model
from .seq2label import SequenceClassifier

if TYPE_CHECKING:
    import torch

    from ...kernel.scene import Scene, Split

TOLERANCE = 0.01
"""How far the probabilities of a row may add up to something else than 1, as they are written with few digits."""


@model("seq2softlabel")
@dataclass
class Seq2SoftLabel(SequenceClassifier):
    """Sequence classification against a probability for each class (knowledge distillation, arXiv 1503.02531).

    `labels` are probabilities: a column of a teacher's result file (`output_type: score`) by `convert2floatlist` with
    `sum_to_one: true`, or true classes by `convert2multilabel`. `hard_labels`, true classes by `convert2int`, may be
    beside them (-100 where there is none). With the temperature T, the probabilities p become p^(1/T), made to add up
    to 1 (the softmax of the teacher's logits divided by T), and the loss of a row is

        (1 - hard_label_weight) * T^2 * soft loss(softmax(logits / T)) + hard_label_weight * cross-entropy(logits)

    summed over rows; T^2 keeps the size of the gradient as it is at T = 1. Metrics compare with the true class, or
    where there is none with the likeliest. What is saved is a plain classifier, as of `seq2label`.
    """

    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    temperature: Annotated[float, Range(0.01, 1000)] = 1.0
    """Evens out the probabilities of teacher and student before they are compared; above 1 small ones count more."""
    soft_loss: Literal["kl_divergence", "cross_entropy"] = "kl_divergence"
    """Both have the same gradient; the divergence is 0 where the student gives just what the teacher does."""
    hard_label_weight: Annotated[float, Range(0, 1)] = 0.0
    """Share of the loss that is the cross-entropy with `hard_labels`."""

    def __post_init__(self) -> None:
        self._problem: Problem | None = "single_label_classification"

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        if "sum_to_one" in scene.values and not scene.values["sum_to_one"].value and {"train", "eval"} & set(splits):
            raise SceneError(
                "sum_to_one is off, and seq2softlabel learns probabilities; set sum_to_one: true, so that a label that "
                "does not add up to 1 is named by file and line"
            )
        if self.hard_label_weight > 0 and "train" in splits:
            given = {made.name for processor in scene.processors("train") for made in processor.fields()}
            if "hard_labels" not in given:
                raise SceneError(
                    f"hard_label_weight = {self.hard_label_weight:g} needs true classes, and no item of the model "
                    "header gives hard_labels; add one such as convert2int:label:hard_labels"
                )
        return ()

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape) != ("float32", "fixed"):
            raise SceneError(
                "seq2softlabel learns a probability for each class; use convert2floatlist for a column of them, or "
                "convert2multilabel for the name of a true class, in the model header"
            )
        return "single_label_classification"

    def _logits(self, labels: Labels) -> int:
        if labels.size < 2:
            raise SceneError(
                "seq2softlabel: the labels have one number a row; give one for each of two or more classes"
            )
        if self.num_labels not in (None, labels.size):
            raise SceneError(f"num_labels = {self.num_labels}, but the labels are lists of {labels.size} numbers")
        return labels.size

    def count(self, batch: Batch) -> int:
        self._check(batch)
        return len(batch["labels"])

    def _check(self, batch: Batch) -> None:
        """Refuses labels that are no probabilities of the model's classes."""
        labels = batch["labels"]
        if labels.shape[1] != self._size:
            raise DataError(f"labels are lists of {labels.shape[1]} numbers, and the model has {self._size} classes")
        sums = labels.sum(dim=1)
        wrong = ((sums - 1).abs() > TOLERANCE) | (labels < 0).any(dim=1)
        if wrong.any():
            raise DataError(
                f"the label {','.join(f'{number:g}' for number in labels[wrong][0].tolist())} is no probability of "
                "each class; they are 0 or more and add up to 1"
            )
        hard = batch.get("hard_labels")
        if hard is not None:
            out = hard[((hard < 0) & (hard != -100)) | (hard >= self._size)]
            if len(out):
                raise DataError(
                    f"hard label {int(out[0])} is not one of the model's classes, 0 to {self._size - 1}, nor -100"
                )

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch
        import torch.nn.functional as F

        scores, labels = self._scores(module, batch), batch["labels"].float()
        if not module.training:  # in training, `count` has looked at them before
            self._check(batch)
        likeliest = labels.argmax(dim=1)
        hard = batch.get("hard_labels", likeliest)
        target = softened(labels, self.temperature)
        soft = -(target * F.log_softmax(scores / self.temperature, dim=1)).sum()
        if self.soft_loss == "kl_divergence":
            soft = soft + torch.xlogy(target, target).sum()
        total = self.temperature**2 * soft
        if self.hard_label_weight > 0:
            truth = F.cross_entropy(scores, hard, reduction="sum", ignore_index=-100)
            total = (1 - self.hard_label_weight) * total + self.hard_label_weight * truth
        known = torch.where(hard < 0, likeliest, hard)
        return Loss(total, len(labels), {"scores": scores.detach(), "labels": known})


def softened(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """[rows, classes] p^(1/T) / sum p^(1/T): the softmax of log p / T, and so of the logits behind p divided by T."""
    import torch

    return torch.softmax(torch.log(probabilities) / temperature, dim=1)
