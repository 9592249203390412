"""One rank of the test of `twinbert` on several: `python twinbert_ranks.py OUT`, with the launcher's variables set.

Rank 0 writes the curve of each way to learn, at each ZeRO stage, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepgen.kernel.batches import BatchSettings, Padding, TrainBatches
from deepgen.kernel.contracts import Field, Labels
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.registry import find
from deepgen.kernel.training import Optimization

INTS = Field("labels", "int64")
WAYS: dict[str, dict[str, Any]] = {
    "in_batch": {"num_hidden_layers": 1},
    "two towers": {"shared_tower": False, "embedding_size": 6, "tanh_activation": True, "both_directions": False},
    "pair": {"crossing": "residual", "post_crossing_layers": 1, "post_crossing_size": 5},
}
ROWS, GLOBAL_BATCH, STEPS = 17, 8, 5


class Rows:
    """Ragged pairs in memory: 17, so that one is left for the last step of an epoch, and one of two ranks has none."""

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        names = ("q_input_ids", "d_input_ids")
        self.fields = {
            name: Field(name, "int64", "ragged", mask=name.replace("input_ids", "attention_mask"), length=True)
            for name in names
        }
        self._ids = {name: [random.integers(5, 60, size) for size in random.integers(3, 12, ROWS)] for name in names}
        self.lengths = np.array([sum(map(len, pair)) for pair in zip(*self._ids.values(), strict=True)], np.int32)
        self.fields["labels"] = INTS
        self._labels = random.integers(0, 2, ROWS)

    def __len__(self) -> int:
        return ROWS

    def take(self, rows: np.ndarray) -> dict[str, Any]:
        return {**{name: [ids[row] for row in rows] for name, ids in self._ids.items()}, "labels": self._labels[rows]}


class Scratch:
    """New weights of a tiny encoder."""

    folder = None
    new_parameters: frozenset[str] = frozenset()

    def __init__(self) -> None:
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
        self.config = quiet_transformers().BertConfig(vocab_size=64, num_hidden_layers=2, **sizes, **dropout)

    def load(self, name: str, around: Callable[[torch.nn.Module], torch.nn.Module], **config: Any) -> torch.nn.Module:
        self.config.update(config)
        return around(getattr(quiet_transformers(), name).from_config(self.config))


def train(engine: Engine, way: str, stage: int) -> list[list[float]]:
    """Loss and gradient norm of each step of an epoch and more, then a digest of the weights."""
    torch.manual_seed(3)
    model: Any = find("model", "twinbert").plugin(**WAYS[way])
    module = model.build(Scratch(), Labels(INTS, 2) if way == "pair" else None)
    engine.settings = EngineSettings(zero_stage=stage, bf16=False)  # type: ignore[arg-type]
    engine.config = {}
    per_device = GLOBAL_BATCH // engine.ranks
    engine.prepare(module, Optimization(learning_rate=1e-2), total_steps=9, per_device=per_device, accumulation=1)
    engine.module.train()
    settings = BatchSettings(per_device_train_batch_size=per_device)
    data = TrainBatches(Rows(), Padding(), settings, 1, engine.ranks, engine.rank, seed=5)  # type: ignore[arg-type]
    found = []
    for micro_batches in [step for epoch in range(2) for step in data.epoch(epoch)][:STEPS]:
        result = engine.train_step(micro_batches, model.loss, model.count)
        found.append([float(result.loss), float(result.grad_norm or 0)])
    state = engine.state_dict()  # the biases of attention keys have a gradient of 0, of which Adam makes noise
    return [*found, [float(value.double().abs().sum()) for name, value in state.items() if "key.bias" not in name]]


if __name__ == "__main__":
    here = Engine.start(EngineSettings(bf16=False))
    curves = {f"{way} {stage}": train(here, way, stage) for way in WAYS for stage in (0, 1, 2, 3)}
    if here.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(curves), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
