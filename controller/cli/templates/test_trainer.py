"""`my_trainer`: its loss is that of the task times `loss_factor`."""

from pathlib import Path
from typing import Any

import torch

from deepgen.kernel.contracts import Loss
from deepgen.kernel.options import options_of
from deepgen.kernel.registry import find, load_file

load_file(str(Path(__file__).with_name("my_trainer.py")))


class SquaredError:
    """As much of a task as a loss needs."""

    def loss(self, module: torch.nn.Module, batch: dict[str, Any]) -> Loss:
        return Loss(((module(batch["x"]) - batch["labels"]) ** 2).sum(), len(batch["labels"]))


class Run:
    """As much of a run as a loss needs."""

    model = SquaredError()


def test_the_loss() -> None:
    module, batch = torch.nn.Linear(2, 1), {"x": torch.ones(3, 2), "labels": torch.zeros(3, 1)}
    plugin: Any = find("trainer", "my_trainer").plugin
    plain, double = (plugin(loss_factor=factor).loss(Run(), module, batch) for factor in (1.0, 2.0))
    assert plain.count == double.count == 3
    assert double.total.item() == 2 * plain.total.item() > 0
    double.total.backward()
    assert module.weight.grad is not None


def test_the_options() -> None:
    plugin = find("trainer", "my_trainer").plugin
    assert {"loss_factor", "learning_rate"} <= {option.name for option in options_of(plugin, "trainer")}
