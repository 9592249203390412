"""Model `twinbert`: a query and a document as two vectors that can be compared, over any Hugging Face architecture."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ...kernel.contracts import NO_ROWS, Batch, Field, Labels, Loss, Model, Problem
from ...kernel.errors import DataError, SceneError
from ...kernel.options import Alias, Range
from ...kernel.ranks import gather_rows
from ...kernel.registry import model
from .seq2label import first_layers

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained
    from ...kernel.scene import Scene, Split

WEIGHTS = "twinbert.safetensors"
"""In the model folder: all weights but those of the query's encoder, which is the Hugging Face model of the folder."""

TOWERS = ("encoder.", "d_encoder.")
"""How the names of the encoders' weights begin."""
OPTIONS = {
    "projection": "embedding_size",
    "crossing": "crossing",
    "post": "post_crossing_layers or post_crossing_size",
    "score": "post_crossing_layers or post_crossing_size",
}
"""Part behind the encoders → the options that its weights have to fit."""
CROSSING = ("crossing.", "post.", "score.")
"""How the names of the weights behind the vectors begin."""


@model("twinbert")
@dataclass
class TwinBert(Model):
    """Twin encoders (TwinBERT, arXiv 2002.06275): each side is encoded, pooled, and projected if so wished.

    Without labels it learns from pairs that belong together: each query is to find its document among those of the
    batch, over all ranks (cross-entropy over cosine / temperature), and with `both_directions` each document its query;
    the loss is a sum over rows. More rows make a harder task, and rows of other accumulation steps are not seen. In an
    evaluation the negatives are those of one forward pass of one rank, so that the loss depends on
    `per_device_eval_batch_size` and not on the number of ranks.

    With the labels 0 and 1 it learns whether a pair belongs together: binary cross-entropy, summed over rows, of one
    logit, so that the metrics and outputters of classification serve; `score_and_more` writes both vectors too.
    """

    needs: ClassVar[tuple[str, ...]] = ("q_input_ids",)
    needs_to_train: ClassVar[tuple[str, ...]] = ("d_input_ids",)

    loss_type: Literal["in_batch", "pair"] | None = None
    """Learn from the other rows as negatives, or from labels; by default from labels where there are some."""
    shared_tower: bool = True
    """One encoder for both sides; otherwise two, which start alike."""
    pooling: Literal["mean", "cls"] = "mean"
    """A text's vector: the mean over its tokens, or the state of its first token."""
    num_hidden_layers: Annotated[int | None, Alias("num_layers"), Range(1)] = None
    """Layers to start with, the first ones of the checkpoint; by default all of them."""
    embedding_size: Annotated[int | None, Alias("embed_dim"), Range(1)] = None
    """Project vectors to so many numbers; by default they have the encoder's size."""
    tanh_activation: bool = False
    """Take the hyperbolic tangent of each number of a vector, after the projection."""
    crossing: Literal["cosine", "residual"] = "cosine"
    """The score of a pair: cosine, or a residual layer over the greater of the two numbers in each place, by labels."""
    post_crossing_layers: Annotated[int, Alias("post_xing_layers"), Range(0)] = 0
    """Hidden layers with ReLU between the residual crossing and the score."""
    post_crossing_size: Annotated[int, Alias("post_xing_dim"), Range(1)] = 192
    """Size of these layers."""
    load_crossing: Annotated[bool, Alias("load_xing_params")] = True
    """Start from the crossing, hidden layers and score of a model folder of this task; otherwise from new ones."""
    temperature: Annotated[float, Range(1e-3)] = 0.05
    """What a cosine is divided by; with labels, the inverse of the slope at the start of training."""
    both_directions: bool = True
    """In-batch: also let each document find its query, and take the mean of both losses."""
    freeze_encoder: Annotated[bool, Alias("freeze")] = False
    """Train the projection and the crossing only."""
    single_tower: Literal["q", "d"] | None = None
    """Predict vectors of one column alone, through the tower of queries or of documents, whatever was learned."""

    def __post_init__(self) -> None:
        self._kind = self.loss_type

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape) != ("int64", "scalar"):
            raise SceneError("twinbert learns labels that are 0 or 1; use convert2int or label_mapping")
        kind = self._kind or ("in_batch" if labels is None else "pair")
        if kind == "in_batch" and self.crossing == "residual":
            raise SceneError(
                "crossing = 'residual' scores one pair at a time and is learned from labels; give the model header an "
                "item such as convert2int:label:labels, or use cosine"
            )
        if self.post_crossing_layers and self.crossing != "residual":
            raise SceneError("post_crossing_layers follow a residual crossing; set crossing: residual, or leave it out")
        return "embedding" if kind == "in_batch" or self.single_tower else "single_label_classification"

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        fields = {split: {made.name for one in scene.processors(split) for made in one.fields()} for split in splits}
        scored = [split for split in splits if split != "predict"]
        if self.single_tower and scored:
            raise SceneError(
                f"single_tower = '{self.single_tower}' is for prediction, and {scored[0]}_dir is set; leave it out"
            )
        for split in scored:
            if self.loss_type == "pair" and "labels" not in fields[split]:
                raise SceneError(
                    f"loss_type = 'pair' needs labels in {split}; add an item such as convert2int:label:labels, or use "
                    "in_batch"
                )
        pair = self.loss_type == "pair" or (self.loss_type is None and any("labels" in fields[one] for one in scored))
        if pair and not self.single_tower and "d_input_ids" not in fields.get("predict", {"d_input_ids"}):
            raise SceneError(
                "single_tower is not set, and the score of a pair needs two columns; give twinbert_tokenize both, or "
                "set single_tower: q for vectors"
            )
        if self.freeze_encoder and self.embedding_size is None and not pair and "train" in splits:
            raise SceneError("freeze_encoder leaves nothing to train; set embedding_size")
        if self.freeze_encoder and scene.values["use_peft"].value:
            raise SceneError("freeze_encoder leaves no layer to use_peft; set one of them")
        return ()

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        if labels is not None and self.loss_type != "in_batch" and labels.size > 2:
            raise SceneError(f"twinbert learns labels that are 0 or 1, and they go up to {labels.size - 1}")
        self._kind = self.loss_type or ("in_batch" if labels is None else "pair")
        self.problem(None if labels is None else labels.field)
        settings: dict[str, Any] = {}
        if self.num_hidden_layers is not None:
            settings["num_hidden_layers"] = first_layers(pretrained.config, self.num_hidden_layers)

        def twins(encoder: torch.nn.Module) -> torch.nn.Module:
            made = self._module(encoder, encoder.config)
            known = self._saved(pretrained, made)
            new = {f"encoder.{name}" for name in pretrained.new_parameters}
            own = {name for name, _ in made.named_parameters() if not name.startswith(TOWERS)}
            pretrained.new_parameters = frozenset(new | (own - known))
            return made

        module = pretrained.load("AutoModel", twins, **settings)
        if self.freeze_encoder:
            for name, parameter in module.named_parameters():
                if name.startswith(TOWERS):
                    parameter.requires_grad_(False)
        return module

    def _module(self, encoder: Any, config: Any) -> torch.nn.Module:
        """The twins around a Hugging Face model."""
        import torch

        options = self
        size = options.embedding_size or int(config.hidden_size)

        class Twins(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.config = config
                self.encoder = encoder
                self.d_encoder = None if options.shared_tower else copy.deepcopy(encoder)
                self.projection = torch.nn.Linear(config.hidden_size, size) if options.embedding_size else None
                pair = options._kind == "pair"
                residual = pair and options.crossing == "residual"
                self.crossing = torch.nn.Linear(size, size) if residual else None
                widths = [size, *[options.post_crossing_size] * options.post_crossing_layers] if residual else [1]
                self.post = torch.nn.ModuleList(starmap(torch.nn.Linear, pairwise(widths)))
                self.score = torch.nn.Linear(widths[-1], 1) if pair else None
                if self.score is not None and not residual:
                    torch.nn.init.constant_(self.score.weight, 1 / options.temperature)
                    torch.nn.init.zeros_(self.score.bias)

            def gradient_checkpointing_enable(self, settings: dict[str, Any]) -> None:
                for tower in filter(None, (self.encoder, self.d_encoder)):
                    tower.gradient_checkpointing_enable(settings)

            def forward(self, texts: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
                """From token ids and mask of each side its vectors in float32, and the `score` of a pair."""
                made = {side: self.embed(side, *given) for side, given in texts.items()}
                if len(made) == 2 and self.score is not None:
                    made["score"] = self.cross(made["q"], made["d"])
                return made

            def embed(self, side: str, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
                tower: Any = self.d_encoder if side == "d" and self.d_encoder is not None else self.encoder
                if tower.config.is_encoder_decoder:
                    tower = tower.get_encoder()
                states = tower(input_ids=ids, attention_mask=mask).last_hidden_state
                if options.pooling == "cls":  # the first token that is no padding, which may be on the left
                    pooled = states[torch.arange(len(ids), device=ids.device), mask.argmax(dim=1)]
                else:
                    weight = mask[:, :, None].float()
                    pooled = (states.float() * weight).sum(1) / weight.sum(1).clamp(min=1)
                if self.projection is not None:
                    pooled = self.projection(pooled.to(self.projection.weight.dtype))
                vectors = pooled.float().tanh() if options.tanh_activation else pooled.float()
                return vectors if options.crossing == "residual" else torch.nn.functional.normalize(vectors, dim=1)

            def cross(self, queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
                """[rows, 1] logits; the residual layer is that of section 3.4 of the paper, with x = max(q, d)."""
                assert self.score is not None, "pairs have a score"
                if self.crossing is None:
                    both = (queries * documents).sum(1, keepdim=True)
                else:
                    both = torch.maximum(queries, documents).to(self.crossing.weight.dtype)
                    both = both + torch.relu(self.crossing(both))
                    for layer in self.post:
                        both = torch.relu(layer(both))
                logits: torch.Tensor = self.score(both.to(self.score.weight.dtype)).float()
                return logits

        return Twins()

    def _saved(self, pretrained: Pretrained, module: torch.nn.Module) -> set[str]:
        """Loads what a model folder of this task holds besides the encoder; gives the names."""
        from safetensors.torch import load_file

        file = None if pretrained.folder is None else pretrained.folder / WEIGHTS
        if file is None or not file.is_file():
            return set()
        state, there = load_file(file), module.state_dict()
        if not self.load_crossing:
            state = {name: value for name, value in state.items() if not name.startswith(CROSSING)}
        for name, given in state.items():
            option, wanted = OPTIONS.get(name.partition(".")[0]), there.get(name)
            if self._kind == "in_batch" and name.startswith(CROSSING):
                continue  # vectors alone are wanted
            if option is not None and (wanted is None or wanted.shape != given.shape):
                raise SceneError(f"{option} does not fit {file}, where {name} is {list(given.shape)}")
        if any(name.startswith("d_encoder.") for name in state) and self.shared_tower:
            raise SceneError(f"shared_tower is on, but {file} holds a tower of its own for documents; set it to false")
        module.load_state_dict({name: value for name, value in state.items() if name in there}, strict=False)
        return set(state)

    def count(self, batch: Batch) -> int:
        if self._kind == "pair":
            wrong = batch["labels"][(batch["labels"] != 0) & (batch["labels"] != 1)]
            if len(wrong):
                raise DataError(f"label {int(wrong[0])} is neither 0 nor 1, which twinbert learns")
        return len(batch["q_input_ids"])

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        import torch
        import torch.nn.functional as F

        made = module(_texts(batch))
        count, outputs = self.count(batch), self._outputs(made)
        if self._kind == "pair":
            total = F.binary_cross_entropy_with_logits(made["score"][:, 0], batch["labels"].float(), reduction="sum")
            return Loss(total, count, outputs)
        own = 0 if NO_ROWS in batch else count
        queries, documents = made["q"][:own], made["d"][:own]
        both = torch.cat([queries, documents], dim=1)
        # evaluation batches are dealt to the ranks, and their loss is not to depend on which others run beside them
        everything, begin = gather_rows(both) if module.training else (both, 0)
        all_queries, all_documents = everything.chunk(2, dim=1)
        target = begin + torch.arange(own, device=both.device)
        total = F.cross_entropy(queries @ all_documents.T / self.temperature, target, reduction="sum")
        if self.both_directions:
            back = F.cross_entropy(documents @ all_queries.T / self.temperature, target, reduction="sum")
            total = (total + back) / 2
        return Loss(total, count, outputs)

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        if self.single_tower is None:
            made = module(_texts(batch))
            vectors = {f"{side}_embedding": made[side] for side in ("q", "d") if "score" in made}
            return {**self._outputs(made), **vectors}
        return {"vectors": {"q": module({self.single_tower: _texts(batch)["q"]})[self.single_tower]}}

    def _outputs(self, made: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """What is kept of a forward pass: a score for pairs with labels, else vectors."""
        if self._kind == "pair" and "score" in made:
            return {"scores": made["score"].detach()}
        return {"vectors": {side: made[side].detach() for side in ("q", "d") if side in made}}

    def decided(self) -> Mapping[str, Any]:
        return {"loss_type": self._kind, "load_crossing": True}

    def save(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        from safetensors.torch import save_file

        twins: Any = module
        encoder = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
        twins.encoder.save_pretrained(folder, state_dict=encoder)
        rest = {name: value.clone() for name, value in state.items() if not name.startswith("encoder.")}
        if rest:
            save_file(rest, folder / WEIGHTS)


def _texts(batch: Batch) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and mask by side, as far as the batch has them."""
    sides = [side for side in ("q", "d") if f"{side}_input_ids" in batch]
    return {side: (batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]) for side in sides}
