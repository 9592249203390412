"""Model `seq2label`: classes or a number for a text, or a pair of texts, over any Hugging Face architecture."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ...kernel.contracts import Batch, Field, Labels, Loss, Model, Problem
from ...kernel.errors import DataError, SceneError
from ...kernel.options import Range
from ...kernel.registry import model

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained

FITS: dict[tuple[str, str], tuple[Problem, ...]] = {
    ("float32", "scalar"): ("regression",),
    ("int64", "scalar"): ("single_label_classification", "regression"),
    ("float32", "fixed"): ("multi_label_classification",),
}
"""What labels of a type can be learned as; the first is the default."""
DROPOUT_NAMES = (
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
    "cls_dropout",
    "summary_last_dropout",
)
"""What architectures call the dropout in front of the classifier."""

RAREST = 1e-3
"""No label is taken for rarer than this, so that one of a few rows does not start out of reach."""


@dataclass
class SequenceClassifier(Model):
    """What tasks share that give a text one row of logits; each says what its labels are and how they are learned."""

    num_labels: Annotated[int | None, Range(1)] = None
    """Number of logits; by default what the training labels need, or what the checkpoint has."""
    num_hidden_layers: Annotated[int | None, Range(1)] = None
    """Layers to start with, the first ones of the checkpoint; by default all of them."""
    classifier_dropout: Annotated[float | None, Range(0, 1)] = None
    """Dropout in front of the classifier; by default the checkpoint's own."""
    prior_bias: bool = True
    """Start the bias of a new classifier at what its labels alone tell (arXiv 1708.02002, section 3.3): the log of each
    class's share, the log-odds of each label, or the mean number. A stream tells nothing ahead, and starts at 0."""

    def __post_init__(self) -> None:
        self._problem: Problem | None = None

    @abstractmethod
    def _logits(self, labels: Labels) -> int:
        """The number of logits for these labels.

        Raises:
            SceneError: num_labels is another.
        """

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        config = pretrained.config
        settings: dict[str, Any] = {}
        if labels is None:
            self._problem = self._problem or config.problem_type or self.problem(None)
            self._size = self.num_labels or config.num_labels
        else:
            self._problem = self.problem(labels.field)
            self._size = self._logits(labels)
            # one logit is that of the second of two classes
            named = labels.names[-1:] if self._size == 1 else labels.names
            names = named if len(named) == self._size else ()
            if names or self._size != config.num_labels:
                chosen = names or tuple(f"LABEL_{number}" for number in range(self._size))
                settings["id2label"] = dict(enumerate(chosen))
                settings["label2id"] = {name: number for number, name in enumerate(chosen)}
        # Transformers reads no config of single-label classification with one logit; without a type, it takes sigmoids
        lone = self._problem == "single_label_classification" and self._size == 1
        settings["problem_type"] = None if lone else self._problem
        if config.pad_token_id is None:  # decoder-only architectures find the last real token by it
            settings["pad_token_id"] = pretrained.tokenizer.pad_token_id
        if self.classifier_dropout is not None:
            known = [name for name in DROPOUT_NAMES if hasattr(config, name)]
            if not known:
                raise SceneError(f"classifier_dropout: the architecture {config.model_type} has no such setting")
            settings[known[0]] = self.classifier_dropout
        if self.num_hidden_layers is not None:
            settings["num_hidden_layers"] = first_layers(config, self.num_hidden_layers)
        module = self._load(pretrained, settings)
        if self.prior_bias and labels is not None and labels.means:
            self._start_at(pretrained, module, labels.means)
        self._accepts = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        return module

    def _load(self, pretrained: Pretrained, settings: Mapping[str, Any]) -> torch.nn.Module:
        """The module with its weights, for a config with these settings."""
        return pretrained.load("AutoModelForSequenceClassification", **settings)

    def _start_at(self, pretrained: Pretrained, module: torch.nn.Module, means: tuple[float, ...]) -> None:
        """Lets a new classifier predict the mean of the labels, so that no step is spent on learning it."""
        import torch

        mean = torch.tensor(means, dtype=torch.float64)
        if self._problem == "regression":  # of whole numbers, the means are shares
            start = mean if len(mean) == 1 else (mean * torch.arange(len(mean))).sum()[None]
        else:
            share = mean.clamp(RAREST, 1 - RAREST)
            if self._size == 1:
                share = share[-1:]
            multi = self._problem == "multi_label_classification" or self._size == 1
            start = torch.logit(share) if multi else torch.log(share)
        classifier = [
            (name, layer)
            for name, layer in module.named_modules()
            if isinstance(layer, torch.nn.Linear) and layer.out_features == self._size
        ][-1:]
        for name, layer in classifier:
            if layer.bias is not None and pretrained.is_new(f"{name}.bias") and len(start) == self._size:
                with torch.no_grad():
                    layer.bias.copy_(start)

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        return {"scores": self._scores(module, batch)}

    def class_names(self, module: torch.nn.Module) -> tuple[str, ...]:
        config: Any = module.config
        if self._problem == "regression" or self._size == 1:
            return ()
        return tuple(str(config.id2label[number]) for number in range(self._size))

    def decided(self) -> Mapping[str, Any]:
        return {"num_labels": self._size}

    def _scores(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Logits in float32, whatever the model computes in."""
        inputs = {name: value for name, value in batch.items() if name in self._accepts}
        scores: torch.Tensor = module(**inputs).logits.float()
        return scores


def first_layers(config: Any, wanted: int) -> int:
    """The wanted number of layers, which the checkpoint of this config must have.

    Raises:
        SceneError: it has fewer, or none that can be counted.
    """
    if not hasattr(config, "num_hidden_layers"):
        raise SceneError(f"num_hidden_layers: the architecture {config.model_type} has no such setting")
    if wanted > config.num_hidden_layers:
        raise SceneError(f"num_hidden_layers = {wanted} is more than the model has: {config.num_hidden_layers}")
    return wanted


@model("seq2label")
@dataclass
class Seq2Label(SequenceClassifier):
    """Sequence classification and regression.

    Whole-number labels make a single-label task, plain numbers a regression, lists of numbers a multi-label task.
    The loss is a sum over rows: cross-entropy; squared error; binary cross-entropy, averaged over the labels of a row.
    With `num_labels: 1` and the labels 0 and 1 the model has one logit, and the loss is binary cross-entropy.
    """

    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    """What is learned; by default decided by the type of the labels."""
    label_smoothing_factor: Annotated[float, Range(0, 1)] = 0.0
    """Share of the target that is spread evenly over all classes; single-label with two or more logits only."""

    def __post_init__(self) -> None:
        self._problem: Problem | None = self.problem_type

    def problem(self, labels: Field | None) -> Problem:
        if labels is None:
            return self._problem or "single_label_classification"
        fits = FITS.get((labels.dtype, labels.shape), ())
        kind = {"scalar": labels.dtype, "fixed": "lists of numbers", "ragged": "token lists"}[labels.shape]
        kind = {"int64": "whole numbers", "float32": "decimal numbers", "string": "text"}.get(kind, kind)
        if not fits:
            raise SceneError(
                f"seq2label cannot learn labels that are {kind}; use convert2int, convert2float, convert2floatlist, "
                "label_mapping or convert2multilabel in the model header"
            )
        if self.problem_type is not None and self.problem_type not in fits:
            raise SceneError(
                f"problem_type = '{self.problem_type}' does not fit labels that are {kind}, which make "
                f"{' or '.join(fits)}; change the processor of the labels or leave problem_type out"
            )
        problem = self.problem_type or fits[0]
        if problem == "regression" and self.num_labels not in (None, 1):
            raise SceneError(f"num_labels = {self.num_labels} does not fit regression, which has one output")
        if self.label_smoothing_factor > 0 and (problem != "single_label_classification" or self.num_labels == 1):
            raise SceneError("label_smoothing_factor needs single-label classification with two or more logits")
        return problem

    def _logits(self, labels: Labels) -> int:
        if self._problem == "regression":
            return 1
        size = max(labels.size, 2) if self._problem == "single_label_classification" else labels.size
        if self.num_labels is None:
            return size
        if self.num_labels == 1 and self._problem == "single_label_classification" and labels.size <= 2:
            return 1
        if self._problem == "multi_label_classification" and self.num_labels != size:
            raise SceneError(f"num_labels = {self.num_labels}, but the labels are lists of {size} numbers")
        if self.num_labels < labels.size:
            raise SceneError(
                f"num_labels = {self.num_labels}, but the labels go up to {labels.size - 1}, which needs {labels.size}"
            )
        return self.num_labels

    def count(self, batch: Batch) -> int:
        self._check(batch["labels"])
        return len(batch["labels"])

    def _check(self, labels: torch.Tensor) -> None:
        """Refuses labels that the model has no output for; a GPU would only say that an index is out of bounds."""
        if self._problem == "single_label_classification":
            classes = max(self._size, 2)
            wrong = labels[(labels < 0) | (labels >= classes)]
            if len(wrong):
                raise DataError(f"label {int(wrong[0])} is not one of the model's classes, 0 to {classes - 1}")
        if self._problem == "multi_label_classification" and labels.shape[1] != self._size:
            raise DataError(f"labels are lists of {labels.shape[1]} numbers, and the model has {self._size} classes")

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch.nn.functional as F

        scores = self._scores(module, batch)
        labels = batch["labels"]
        if not module.training:  # in training, `count` has looked at them before
            self._check(labels)
        if self._problem == "regression":
            total = F.mse_loss(scores.squeeze(-1), labels.float(), reduction="sum")
        elif self._problem == "multi_label_classification":
            total = F.binary_cross_entropy_with_logits(scores, labels, reduction="sum") / self._size
        elif self._size == 1:
            total = F.binary_cross_entropy_with_logits(scores.squeeze(-1), labels.float(), reduction="sum")
        else:
            total = F.cross_entropy(scores, labels, reduction="sum", label_smoothing=self.label_smoothing_factor)
        return Loss(total, len(labels), {"scores": scores.detach()})

    def decided(self) -> Mapping[str, Any]:
        return {"problem_type": self._problem, **super().decided()}
