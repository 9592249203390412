"""What a run hands its trainer, and the arithmetic of optimizing that trainers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .errors import SceneError

if TYPE_CHECKING:
    import torch

    from .batches import MicroBatch
    from .checkpoints import Checkpoints
    from .contracts import Model
    from .engine import Engine
    from .events import EventStream
    from .scene import Scene


class TrainData(Protocol):
    """Batches of the training split, the same global order for any number of ranks."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the data; 0 when it is not known (streams)."""
        ...

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[MicroBatch]]:
        """The steps of an epoch from `first_step` on: this rank's micro batches, one for each accumulation."""
        ...


@dataclass
class Run:
    """All that a trainer needs of a run."""

    scene: Scene
    engine: Engine
    model: Model
    module: torch.nn.Module
    """As `Model.build` made it; the trainer hands it to `engine.prepare`."""
    new_parameters: frozenset[str]
    """Names of the weights that no checkpoint gave."""
    train_data: Callable[[int], TrainData]
    """The batches for so many accumulation steps."""
    per_device: int
    """Rows in a micro batch of one rank."""
    evaluate: Callable[[], Mapping[str, float]] | None
    """Scores of the evaluation split, such as `eval_loss` and `eval_auc`, the same on every rank; None without one."""
    score: str
    """The score that chooses the best model."""
    higher_is_better: bool
    events: EventStream
    checkpoints: Checkpoints
    seed: int
    stop: Callable[[], bool]
    """Whether this rank was asked to end."""
    resumes: bool = True
    """Go on from the newest checkpoint, where there is one."""


@dataclass(frozen=True)
class Optimization:
    """How weights follow their gradients: AdamW with a schedule of the learning rate."""

    learning_rate: float = 5e-5
    head_learning_rate: float | None = None
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: Mapping[str, Any] = field(default_factory=dict)
    warmup_steps: int = 0

    def groups(self, module: torch.nn.Module, new_parameters: frozenset[str]) -> list[dict[str, Any]]:
        """Parameter groups: biases and norms (all vectors) do not decay, new weights have their own learning rate."""
        import torch

        norms = {
            f"{name}.{inner}" if name else inner
            for name, part in module.named_modules()
            if isinstance(part, torch.nn.LayerNorm | torch.nn.GroupNorm) or "norm" in type(part).__name__.lower()
            for inner, _ in part.named_parameters(recurse=False)
        }
        grouped: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            new = self.head_learning_rate is not None and name in new_parameters
            rate = self.head_learning_rate if new and self.head_learning_rate is not None else self.learning_rate
            decays = name not in norms and not name.endswith("bias")
            grouped.setdefault((rate, self.weight_decay if decays else 0.0), []).append(parameter)
        return [{"params": part, "lr": rate, "weight_decay": decay} for (rate, decay), part in grouped.items()]

    def scheduler(self, optimizer: torch.optim.Optimizer, total_steps: int) -> Any:
        """Any schedule of Hugging Face by its name.

        Raises:
            SceneError: a schedule that needs settings it was not given.
        """
        from transformers import get_scheduler

        try:
            return get_scheduler(
                self.lr_scheduler_type,
                optimizer,
                num_warmup_steps=self.warmup_steps,
                num_training_steps=total_steps,
                scheduler_specific_kwargs=dict(self.lr_scheduler_kwargs),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise SceneError(f"lr_scheduler_type = '{self.lr_scheduler_type}': {error}") from None


def main_score(scene: Scene) -> tuple[str, bool]:
    """The score that chooses the best model (the first of eval_metrics, else the loss), and whether more is better."""
    names = scene.settings.eval_metrics
    if not names or names[0] == "eval_loss":
        return "eval_loss", False
    metric, key = scene.metrics[0]
    return f"eval_{key or metric.keys()[0]}", metric.higher_is_better


def better(score: float, best: float | None, higher_is_better: bool) -> bool:
    """Whether a score beats the best so far; a score that is not defined never does."""
    if math.isnan(score):
        return False
    return best is None or (score > best if higher_is_better else score < best)
