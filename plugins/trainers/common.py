"""The training loop: steps, evaluation, checkpoints, early stopping, resume; other trainers subclass it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ...kernel import training
from ...kernel.contracts import Batch, Loss, Trainer
from ...kernel.errors import Interrupted, RunError, SceneError
from ...kernel.options import Alias, Range
from ...kernel.registry import trainer
from ...kernel.training import Optimization, Position, Run, StepResult, TrainData

if TYPE_CHECKING:
    import torch

    from ...kernel.batches import MicroBatch
    from ...kernel.scene import Scene, Split

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]
When = Literal["no", "steps", "epoch"]


@trainer("common")
@dataclass
class Common(Trainer):
    """Trains for some epochs or steps, evaluates and saves on the way, and ends with the best model.

    To change what is learned, override `loss`; to change how, `step`; to change how it is judged, `evaluate`.
    """

    num_train_epochs: Annotated[float, Range(0)] = 3.0
    """Passes over the training data; may be a fraction."""
    max_steps: Annotated[int, Range(-1)] = -1
    """Optimizer steps, instead of num_train_epochs; -1: not used. Streams need it."""
    learning_rate: Annotated[float, Range(0)] = 5e-5
    """The highest learning rate of the schedule."""
    head_learning_rate: Annotated[float | None, Range(0)] = None
    """That of the weights that no checkpoint gave, such as a new classifier; by default learning_rate."""
    weight_decay: Annotated[float, Range(0)] = 0.0
    """AdamW's decay, of all weights but biases and norms."""
    adam_beta1: Annotated[float, Range(0, 1)] = 0.9
    """AdamW's decay of the mean of gradients."""
    adam_beta2: Annotated[float, Range(0, 1)] = 0.999
    """AdamW's decay of the mean of squared gradients."""
    adam_epsilon: Annotated[float, Range(0)] = 1e-8
    """AdamW's term against division by zero."""
    max_grad_norm: Annotated[float, Range(0)] = 1.0
    """Gradients with a greater norm are scaled down to it; 0: never."""
    lr_scheduler_type: Schedule = "linear"
    """The course of the learning rate after the warm-up."""
    lr_scheduler_kwargs: dict[str, Any] | None = None
    """Settings of the schedule, such as `num_cycles:2`, as Hugging Face names them."""
    warmup_ratio: Annotated[float, Range(0, 1)] = 0.0
    """Share of all steps in which the learning rate rises from 0."""
    warmup_steps: Annotated[int, Range(0)] = 0
    """Steps in which it rises, instead of warmup_ratio."""
    gradient_accumulation_steps: Annotated[int, Range(1)] = 1
    """Forward and backward passes of each rank for one optimizer step."""
    eval_strategy: Annotated[When, Alias("evaluation_strategy")] = "epoch"
    """When to evaluate; without evaluation data never."""
    eval_steps: Annotated[int, Range(1)] = 500
    """Optimizer steps between evaluations, for eval_strategy steps."""
    save_strategy: When = "epoch"
    """When to write checkpoints; the best model is kept and Ctrl-C leaves one in any case."""
    save_steps: Annotated[int, Range(1)] = 500
    """Optimizer steps between checkpoints, for save_strategy steps."""
    save_total_limit: Annotated[int | None, Range(1)] = 2
    """Checkpoints that are kept: the newest, the best, then the next older ones; none: all."""
    load_best_model_at_end: bool = True
    """End with the weights of the best evaluation by the first of eval_metrics, not with the last."""
    greater_is_better: bool | None = None
    """Whether a higher score is better; by default as the metric says."""
    early_stopping_patience: Annotated[int | None, Range(1)] = None
    """End after so many evaluations in a row without a better score."""
    logging_steps: Annotated[int, Range(1)] = 10
    """Optimizer steps between two points of the learning curve."""
    resume: Literal["auto", "never"] = "auto"
    """Go on from the newest whole checkpoint of the run folder as if nothing had happened."""

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        """Options that need evaluation data, or each other."""
        evaluates = "eval" in splits and self.eval_strategy != "no"
        if self.early_stopping_patience is not None and not evaluates:
            raise SceneError("early_stopping_patience: nothing is evaluated; set eval_dir and eval_strategy")
        if "eval" not in splits and self.eval_strategy != "no" and scene.values["eval_strategy"].is_set:
            raise SceneError(f"eval_strategy = '{self.eval_strategy}' has nothing to evaluate on; set eval_dir")
        if not evaluates and self.load_best_model_at_end and scene.values["load_best_model_at_end"].is_set:
            raise SceneError("load_best_model_at_end: nothing is evaluated; set eval_dir and eval_strategy")
        if scene.values["datareader_streaming"].value and self.max_steps < 1:
            raise SceneError("max_steps is not set; the length of a stream is not known: say how many steps to train")
        if self.warmup_steps and self.warmup_ratio:
            raise SceneError(f"warmup_steps = {self.warmup_steps} and warmup_ratio = {self.warmup_ratio}; keep one")
        counted = {"eval_steps": self.eval_strategy, "save_steps": self.save_strategy}
        idle = [name for name, when in counted.items() if when != "steps" and scene.values[name].is_set]
        notes = [f"{name} has no effect, as {name[:4]}_strategy is {counted[name]}" for name in idle]
        return [*notes, *(training.direction(scene, self.greater_is_better) if evaluates else ())]

    def loss(self, run: Run, module: torch.nn.Module, batch: Batch) -> Loss:
        """The loss of one micro batch."""
        return run.model.loss(module, batch)

    def step(self, run: Run, micro_batches: list[MicroBatch]) -> StepResult:
        """One optimizer step."""
        return run.engine.train_step(micro_batches, partial(self.loss, run), run.model.count, run.stop())

    def evaluate(self, run: Run) -> Mapping[str, float]:
        """Scores by name, the same on every rank."""
        assert run.evaluate is not None
        return run.evaluate()

    def train(self, run: Run) -> Mapping[str, float]:
        """Trains to the end of the schedule and gives the scores of the model it ends with.

        Raises:
            Interrupted: `run.stop` asked for an end; a checkpoint holds what was done.
            RunError: the loss is no number any more.
        """
        data = run.train_data(self.gradient_accumulation_steps)
        total = self._total_steps(data.steps_per_epoch)
        run.engine.prepare(
            run.module,
            self._optimization(total),
            total_steps=total,
            per_device=run.per_device,
            accumulation=self.gradient_accumulation_steps,
            new_parameters=run.new_parameters,
        )
        training.seed_rank(run.seed + run.engine.rank)
        position = Position(steps_per_epoch=data.steps_per_epoch)
        if run.resumes and self.resume == "auto" and (newest := run.checkpoints.newest()) is not None:
            position = training.load(run, newest, position)
        _Loop(self, run, position, total).go(data)
        if self.load_best_model_at_end and position.best_step not in (None, position.step):
            run.engine.load(run.checkpoints.path(position.best_step))
            run.events.notice(f"ends with the model of step {position.best_step}, {run.score} {position.best:.4g}")
        return position.scores

    def _optimization(self, total: int) -> Optimization:
        """What of the options the optimizer and its schedule of so many steps are made of."""
        return Optimization(
            learning_rate=self.learning_rate,
            head_learning_rate=self.head_learning_rate,
            weight_decay=self.weight_decay,
            adam_beta1=self.adam_beta1,
            adam_beta2=self.adam_beta2,
            adam_epsilon=self.adam_epsilon,
            max_grad_norm=self.max_grad_norm,
            lr_scheduler_type=self.lr_scheduler_type,
            lr_scheduler_kwargs=self.lr_scheduler_kwargs or {},
            warmup_steps=self.warmup_steps or math.ceil(self.warmup_ratio * total),
        )

    def _total_steps(self, steps_per_epoch: int) -> int:
        if self.max_steps > 0:
            return self.max_steps
        if not steps_per_epoch:
            raise SceneError("max_steps: the length of a stream is not known; say how many steps to train")
        return math.ceil(self.num_train_epochs * steps_per_epoch)


class _Loop:
    """One run's way through the steps."""

    def __init__(self, trainer: Common, run: Run, position: Position, total: int) -> None:
        self.trainer, self.run, self.at, self.total = trainer, run, position, total
        self.begin = time.monotonic()
        self.first_step = position.step
        self.rows = self.tokens = 0
        self.aside = 0.0
        """Seconds spent on evaluation and checkpoints."""

    @property
    def ended(self) -> bool:
        """All steps are done, or patience is over."""
        patience = self.trainer.early_stopping_patience
        return self.at.step >= self.total or (patience is not None and self.at.without_gain >= patience)

    def go(self, data: TrainData) -> None:
        """Steps to the end, or until a rank was asked to stop."""
        self.run.events.stage("train", total=self.total, unit="steps")
        self.run.engine.module.train()
        if self.at.owes_evaluation:
            self.at.owes_evaluation = False
            if self._evaluate() and self.trainer.load_best_model_at_end:
                self._save()
        with contextlib.closing(self._steps(data)) as steps:
            while not self.ended:
                micro_batches, last = next(steps)
                result = self.trainer.step(self.run, micro_batches)
                self.at.advance(last)
                self._log(result)
                evaluates = self._is_due(self.trainer.eval_strategy, self.trainer.eval_steps, last)
                self.at.owes_evaluation = evaluates and result.stop  # who asks for an end does not want to wait
                keep = evaluates and not result.stop and self._evaluate() and self.trainer.load_best_model_at_end
                if keep or result.stop or self._is_due(self.trainer.save_strategy, self.trainer.save_steps, last):
                    self._save()
                if result.stop:
                    raise Interrupted(
                        f"stopped after step {self.at.step} of {self.total}; the same command goes on from "
                        f"{self.run.checkpoints.path(self.at.step)}"
                    )
        if self.at.step < self.total:
            self.run.events.notice(f"no better {self.run.score} in {self.at.without_gain} evaluations: training ends")

    def _steps(self, data: TrainData) -> Generator[tuple[list[MicroBatch], bool]]:
        """The steps from the position on, each with whether it is the last of its epoch."""
        while True:
            steps = data.epoch(self.at.epoch, self.at.epoch_step)
            now = next(steps, None)
            if now is None:
                raise RunError("there are no rows to train on")
            while now is not None:
                following = next(steps, None)
                yield now, following is None
                now = following

    def _is_due(self, strategy: When, every: int, last: bool) -> bool:
        """Whether it is time to evaluate or to save; the end of training is always due unless the strategy is no."""
        if strategy == "no":
            return False
        return self.at.step >= self.total or (last if strategy == "epoch" else self.at.step % every == 0)

    def _evaluate(self) -> bool:
        """Evaluates; whether the score is the best so far."""
        run, at = self.run, self.at
        if run.evaluate is None:
            return False
        begin = time.monotonic()
        scores = self.trainer.evaluate(run)
        run.engine.module.train()
        if run.score not in scores:
            raise SceneError(f"eval_metrics: no score is called '{run.score}'; there are {', '.join(scores)}")
        higher = run.higher_is_better if self.trainer.greater_is_better is None else self.trainer.greater_is_better
        gain = training.better(scores[run.score], at.best, higher)
        at.without_gain = 0 if gain else at.without_gain + 1
        if gain:
            at.best, at.best_step = scores[run.score], at.step
        if gain or at.best is None or not self.trainer.load_best_model_at_end:
            at.scores = dict(scores)
        seconds = time.monotonic() - begin
        self.aside += seconds
        run.events.scored("eval", scores, step=at.step, epoch=at.passes, best=gain, seconds=seconds)
        return gain

    def _save(self) -> None:
        begin, run = time.monotonic(), self.run
        saved = run.checkpoints.save(self.at.step, partial(training.save, run, self.at), training.facts(run))
        keep = () if self.at.best_step is None else (self.at.best_step,)
        run.checkpoints.prune(self.trainer.save_total_limit, keep)
        run.events.saved("checkpoint", saved.path, step=saved.step)
        self.aside += time.monotonic() - begin

    def _log(self, result: StepResult) -> None:
        """Says how far training is; reads the loss, which waits for the device, only at every `logging_steps`."""
        at = self.at
        at.loss_sum += result.loss
        at.loss_steps += 1
        self.rows += result.rows
        self.tokens += result.tokens
        values: dict[str, float] = {}
        if at.step % self.trainer.logging_steps == 0 or at.step >= self.total:
            values = {"loss": float(at.loss_sum) / at.loss_steps, "learning_rate": result.learning_rate}
            if result.grad_norm is not None:
                values["grad_norm"] = float(result.grad_norm)
            if not math.isfinite(values["loss"]):
                raise RunError(
                    f"the loss is {values['loss']} at step {at.step}; try a lower learning_rate, or bf16: false"
                )
            at.loss_sum, at.loss_steps = 0.0, 0
        seconds = max(time.monotonic() - self.begin - self.aside, 1e-9)
        self.run.events.progress(
            "train",
            at.step,
            self.total,
            rows_per_second=self.rows / seconds,
            tokens_per_second=self.tokens / seconds,
            seconds_left=(self.total - at.step) * seconds / (at.step - self.first_step),
            step=at.step,
            epoch=at.passes,
            values=values,
        )
