"""What a run hands its trainer, and the arithmetic of optimizing that trainers share."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .errors import SceneError

if TYPE_CHECKING:
    import torch

    from .batches import MicroBatch
    from .checkpoints import Checkpoint, Checkpoints
    from .contracts import Model
    from .engine import Engine
    from .events import EventStream
    from .scene import Scene


POSITION = "position.json"


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
class StepResult:
    """What one optimizer step gave. Reading the loss or the norm as a float waits for the device."""

    loss: torch.Tensor
    """Mean over the global batch: sum of losses / sum of counts over all ranks and micro batches."""
    grad_norm: torch.Tensor | float | None
    learning_rate: float
    rows: int
    """In the global batch, as are the tokens."""
    tokens: int
    stop: bool
    """Some rank was asked to stop; the same on every rank."""


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

    def adamw(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Torch's AdamW in one kernel."""
        import torch

        betas = (self.adam_beta1, self.adam_beta2)
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=betas, eps=self.adam_epsilon, fused=True)

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


@dataclass
class Position:
    """How far training is: all that a checkpoint holds besides weights, optimizer, schedule and random numbers."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done."""
    epoch_step: int = 0
    """Steps done of the epoch that is going on."""
    steps_per_epoch: int = 0
    """0 when it is not known."""
    best: float | None = None
    best_step: int | None = None
    without_gain: int = 0
    """Evaluations since the best one."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of the model that training would end with now: the best one, or the last."""
    owes_evaluation: bool = False
    """An evaluation was due when somebody asked for an end; it is made up for on resume."""
    loss_sum: float | torch.Tensor = 0.0
    """Losses since the last point of the learning curve, and the number of steps they come from."""
    loss_steps: int = 0

    def advance(self, last: bool) -> None:
        """One more step is done; `last` of its epoch."""
        self.step += 1
        self.epoch_step += 1
        if last:
            self.epoch, self.epoch_step = self.epoch + 1, 0

    @property
    def passes(self) -> float:
        """Epochs done, with the share of the one that is going on."""
        return self.epoch + (self.epoch_step / self.steps_per_epoch if self.steps_per_epoch else 0.0)


def facts(run: Run) -> dict[str, Any]:
    """What a checkpoint must have in common with the run that loads it: its files are divided accordingly."""
    engine = run.engine
    return {"num_ranks": engine.ranks, "zero_stage": engine.zero_stage, "dtype": str(engine.dtype).split(".")[1]}


def save(run: Run, position: Position, folder: Path) -> None:
    """Writes this rank's part of a checkpoint."""
    run.engine.save(folder)
    if run.engine.rank == 0:
        text = json.dumps({**dataclasses.asdict(position), "loss_sum": float(position.loss_sum)}, indent=1)
        (folder / POSITION).write_text(text, encoding="utf-8")
    (folder / f"random-{run.engine.rank}.pickle").write_bytes(pickle.dumps(_random_state()))


def load(run: Run, checkpoint: Checkpoint, fresh: Position) -> Position:
    """Takes up a checkpoint: weights, optimizer, schedule, random numbers; returns where training goes on.

    Raises:
        SceneError: it was written by another number of ranks, at another stage, or with another number of rows.
    """
    path = checkpoint.path
    for name, value in facts(run).items():
        if checkpoint.facts.get(name) != value:
            raise SceneError(
                f"{path} was written with {name} {checkpoint.facts.get(name)}, and this run has {value}; "
                "run it as it was, or start over with --overwrite_output_dir"
            )
    position = Position(**json.loads((path / POSITION).read_text(encoding="utf-8")))
    if position.steps_per_epoch != fresh.steps_per_epoch:
        raise SceneError(
            f"{path} was written with {position.steps_per_epoch} steps an epoch, and this run has "
            f"{fresh.steps_per_epoch}: the data or the batch size has changed; start over with --overwrite_output_dir"
        )
    run.engine.load(path)
    _restore(pickle.loads((path / f"random-{run.engine.rank}.pickle").read_bytes()))
    return position


def seed_rank(seed: int) -> None:
    """Seeds dropout and all else that is drawn at random in this process."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _random_state() -> tuple[Any, ...]:
    import numpy as np
    import torch

    gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpu


def _restore(state: tuple[Any, ...]) -> None:
    import numpy as np
    import torch

    python, numpy, cpu, gpu = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if gpu is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(gpu)


def checkpoint_gradients(module: torch.nn.Module) -> None:
    """Lets a Hugging Face module compute its activations again in the backward pass.

    Raises:
        SceneError: the architecture cannot do it.
    """
    enable = getattr(module, "activation_checkpointing_enable", None)
    enable = enable or getattr(module, "gradient_checkpointing_enable", None)
    if enable is None:
        raise SceneError(f"gradient_checkpointing: {type(module).__name__} cannot do it; leave it off")
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise SceneError(f"gradient_checkpointing: {error}") from None


def main_score(scene: Scene) -> tuple[str, bool]:
    """The score that chooses the best model (the first of eval_metrics, else the loss), and whether more is better."""
    names = scene.settings.eval_metrics
    if not names or names[0] == "eval_loss":
        return "eval_loss", False
    metric, key = scene.metrics[0]
    return f"eval_{key or metric.keys()[0]}", metric.higher_is_better


def direction(scene: Scene, greater_is_better: bool | None) -> Sequence[str]:
    """A note where the best model is to be the one with the worst score.

    Raises:
        SceneError: and that score is the loss.
    """
    score, higher = main_score(scene)
    if greater_is_better in (None, higher):
        return ()
    if score == "eval_loss":
        raise SceneError("greater_is_better = true, but eval_loss chooses the best model, and less of it is better")
    return (f"greater_is_better: the model with the {'least' if higher else 'greatest'} {score} counts as best",)


def better(score: float, best: float | None, higher_is_better: bool) -> bool:
    """Whether a score beats the best so far; a score that is not defined never does."""
    if math.isnan(score):
        return False
    return best is None or (score > best if higher_is_better else score < best)
