"""Model `seq2tag`: a tag for each word of a text, such as its case, its part of speech or a named entity."""

from __future__ import annotations

import inspect
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


@model("seq2tag")
@dataclass
class Seq2Tag(Model):
    """Token classification; features by `tag_tokenize`.

    A word has the tag of its first piece; the loss is the sum of the cross-entropy over these pieces. It answers with
    text: the names of the tags, divided by spaces, one for each word that was not cut. `token_error_rate` is then the
    share of wrong tags, and `formatter` writes the words in the case of their tags.
    """

    needs: ClassVar[tuple[str, ...]] = ("input_ids", "word_starts")
    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    num_labels: Annotated[int | None, Range(1)] = None
    """Number of logits; by default what the training labels need, or what the checkpoint has."""
    last_layer: Literal["fwd", "transformer"] = "fwd"
    """What training puts on top of the model: a linear layer, or one more layer of the model's own kind and that."""

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape) != ("int64", "ragged"):
            raise SceneError("seq2tag learns a tag for each word; give text and tags as the columns of tag_tokenize")
        return "text"

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        settings: dict[str, Any] = {}
        if labels is not None:
            if not labels.names:
                raise SceneError("seq2tag needs the names of the tags; give the labels by tag_tokenize")
            if self.num_labels not in (None, len(labels.names)):
                raise SceneError(f"num_labels = {self.num_labels}, but label_mapping has {len(labels.names)} tags")
            settings["id2label"] = dict(enumerate(labels.names))
            settings["label2id"] = {name: number for number, name in enumerate(labels.names)}
            if self.last_layer == "transformer":
                settings |= _one_more_layer(pretrained.config)
        module: Any = pretrained.load("AutoModelForTokenClassification", **settings)
        self._names = [str(module.config.id2label[number]) for number in range(module.config.num_labels)]
        self._accepts = frozenset(inspect.signature(module.forward).parameters) - {"labels"}
        return module  # type: ignore[no-any-return]

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != -100).sum())

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch.nn.functional as F

        labels, logits = batch["labels"], self._logits(module, batch)
        real = labels != -100
        found = labels[real]
        if len(found) and int(found.max()) >= len(self._names):
            raise DataError(f"tag {int(found.max())} is not one of the model's, 0 to {len(self._names) - 1}")
        return Loss(F.cross_entropy(logits[real], found, reduction="sum"), len(found))

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        best = self._logits(module, batch).argmax(dim=-1).tolist()
        starts = batch["word_starts"].tolist()
        return {
            "texts": [
                [" ".join(self._names[tag] for tag, begins in zip(tags, row, strict=True) if begins)]
                for tags, row in zip(best, starts, strict=True)
            ]
        }

    def decided(self) -> Mapping[str, Any]:
        return {"num_labels": len(self._names)}

    def _logits(self, module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """[rows, pieces, tags] in float32, whatever the model computes in."""
        inputs = {name: value for name, value in batch.items() if name in self._accepts}
        logits: torch.Tensor = module(**inputs).logits.float()
        return logits


def _one_more_layer(config: Any) -> dict[str, Any]:
    """Settings of a config with a layer more, whose weights are then new."""
    if not hasattr(config, "num_hidden_layers") or config.is_encoder_decoder:
        raise SceneError(f"last_layer: '{config.model_type}' is no single stack of layers; leave it at fwd")
    settings: dict[str, Any] = {"num_hidden_layers": config.num_hidden_layers + 1}
    if hasattr(config, "layer_types") and config.layer_types:  # such as full and local attention by turns
        settings["layer_types"] = [*config.layer_types, config.layer_types[-1]]
    return settings
