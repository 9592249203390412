"""The common trainer's options, schedules and position, without ranks; the loop itself is in test_engine.py."""

from __future__ import annotations

import math
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.kernel.checkpoints import Checkpoint
from deepgen.kernel.errors import SceneError
from deepgen.kernel.options import options_of
from deepgen.kernel.settings import load as load_scene
from deepgen.kernel.training import Optimization, Position, better, main_score
from deepgen.plugins.trainers.common import Common, Schedule

ALL: Any = ("train", "eval")
TRAIN: Any = ("train",)


def test_every_option_has_a_help() -> None:
    assert all(option.help for option in options_of(Common, "trainer common"))


def test_the_schedules_are_those_of_transformers() -> None:
    from transformers import SchedulerType

    needs_other_calls = {"reduce_lr_on_plateau", "greedy"}
    assert set(typing.get_args(Schedule)) == {schedule.value for schedule in SchedulerType} - needs_other_calls


@pytest.mark.parametrize("name", typing.get_args(Schedule))
def test_every_schedule_can_be_made(name: str) -> None:
    settings = {"cosine_with_min_lr": {"min_lr_rate": 0.1}, "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1}}
    settings["warmup_stable_decay"] = {"num_decay_steps": 4}
    optimization = Optimization(lr_scheduler_type=name, warmup_steps=2, lr_scheduler_kwargs=settings.get(name, {}))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = optimization.scheduler(optimizer, 10)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert 0 <= scheduler.get_last_lr()[0] <= 0.1


def test_a_schedule_without_its_settings_is_refused() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(SceneError, match="lr_scheduler_type = 'warmup_stable_decay'"):
        Optimization(lr_scheduler_type="warmup_stable_decay").scheduler(optimizer, 10)


def test_biases_and_norms_do_not_decay_and_new_weights_have_their_own_rate() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.norm, self.head = torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2)
            self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    net = Net()
    groups = Optimization(learning_rate=1e-3, head_learning_rate=1e-2, weight_decay=0.1).groups(
        net, frozenset({"head.weight", "head.bias"})
    )
    names = {parameter: name for name, parameter in net.named_parameters()}
    found = {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found == {
        "body.weight": (1e-3, 0.1),
        "body.bias": (1e-3, 0.0),
        "norm.weight": (1e-3, 0.0),
        "norm.bias": (1e-3, 0.0),
        "head.weight": (1e-2, 0.1),
        "head.bias": (1e-2, 0.0),
    }


def test_adamw_is_made_of_the_options() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    chosen = Optimization(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6)
    assert {**chosen.adamw([{"params": [weight]}]).defaults}.items() >= {"betas": (0.8, 0.95), "eps": 1e-6}.items()
    given = Common(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, max_grad_norm=2, weight_decay=0.1)
    assert given._optimization(3) == replace(chosen, max_grad_norm=2, weight_decay=0.1)


@pytest.mark.parametrize(
    ("score", "best", "higher", "expected"),
    [
        (0.5, None, True, True),
        (0.5, 0.4, True, True),
        (0.5, 0.5, True, False),
        (0.5, 0.4, False, False),
        (0.3, 0.4, False, True),
        (math.nan, None, True, False),
    ],
)
def test_better_knows_the_direction(score: float, best: float | None, higher: bool, expected: bool) -> None:
    assert better(score, best, higher) is expected


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ("", ("eval_loss", False)),
        ("eval_loss,acc", ("eval_loss", False)),
        ("acc", ("eval_acc", True)),
        ("mse,acc", ("eval_mse", False)),
        ("rouge:rougeL", ("eval_rougeL", True)),
        ("rouge_legacy:legacy_rougeL", ("eval_legacy_rougeL", True)),
    ],
)
def test_the_first_metric_chooses_the_best_model(metrics: str, expected: tuple[str, bool]) -> None:
    tokens = ["--task", "seq2label", *(["--eval_metrics", metrics] if metrics else [])]
    assert main_score(load_scene(None, tokens)) == expected


def test_the_position_counts_epochs_and_steps() -> None:
    position = Position(steps_per_epoch=4)
    for step in range(1, 7):
        position.advance(last=step % 4 == 0)
    assert (position.step, position.epoch, position.epoch_step, position.passes) == (6, 1, 2, 1.5)


@pytest.mark.parametrize(
    ("options", "splits", "message"),
    [
        ({"early_stopping_patience": 2}, TRAIN, "early_stopping_patience: nothing is evaluated"),
        ({"early_stopping_patience": 2, "eval_strategy": "no"}, ALL, "early_stopping_patience: nothing is evaluated"),
        ({"warmup_steps": 5, "warmup_ratio": 0.1}, ALL, "warmup_steps = 5 and warmup_ratio = 0.1"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], splits: Any, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        Common(**options).check(load_scene(None, ["--task", "seq2label"]), splits)


def test_steps_that_nothing_counts() -> None:
    scene = load_scene(None, ["--task", "seq2label", "--save_steps", "5", "--eval_steps", "5"])
    assert Common(save_steps=5, eval_steps=5, eval_strategy="steps").check(scene, ALL) == [
        "save_steps has no effect, as save_strategy is epoch"
    ]


def test_the_direction_of_the_best_score() -> None:
    by_loss = load_scene(None, ["--task", "seq2label", "--eval_metrics", "eval_loss,acc"])
    with pytest.raises(SceneError, match="greater_is_better = true, but eval_loss chooses the best model"):
        Common(greater_is_better=True).check(by_loss, ALL)
    assert not Common(greater_is_better=False).check(by_loss, ALL)
    assert not Common(greater_is_better=True).check(by_loss, TRAIN)
    by_score = load_scene(None, ["--task", "seq2label", "--eval_metrics", "acc,eval_loss"])
    assert not Common(greater_is_better=True).check(by_score, ALL)
    (note,) = Common(greater_is_better=False).check(by_score, ALL)
    assert note == "greater_is_better: the model with the least eval_acc counts as best"


def test_the_defaults_go_together() -> None:
    assert not Common().check(load_scene(None, ["--task", "seq2label"]), TRAIN)


def test_steps_come_from_epochs_or_are_given() -> None:
    assert Common(num_train_epochs=1.5)._total_steps(7) == 11
    assert Common(max_steps=5)._total_steps(7) == 5
    assert Common(max_steps=5)._total_steps(0) == 5
    with pytest.raises(SceneError, match="max_steps: the length of a stream is not known"):
        Common()._total_steps(0)


def test_a_checkpoint_of_other_ranks_is_refused(tmp_path: Path) -> None:
    from deepgen.kernel import training

    class Engine:
        rank, ranks, zero_stage, dtype = 0, 2, 1, torch.bfloat16

    class Run:
        engine = Engine()

    run: Any = Run()
    facts = {"num_ranks": 1, "zero_stage": 1, "dtype": "bfloat16"}
    with pytest.raises(SceneError, match="was written with num_ranks 1, and this run has 2"):
        training.load(run, Checkpoint(3, tmp_path, facts), Position())
