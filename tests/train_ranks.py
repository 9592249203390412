"""Trains a task on a small new BERT by one real rank and by two, for tests that both have one curve.

A test file that calls `curves(__file__, …)` is each of the ranks too: run as a program, it calls `train`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepgen.kernel.batches import BatchSettings, Padding, TrainBatches
from deepgen.kernel.contracts import Field, Labels
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find
from deepgen.kernel.training import Optimization

ROWS, GLOBAL_BATCH, STEPS, VOCABULARY = 17, 8, 5, 64
BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "vocab_size": VOCABULARY,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "tokenizer": {"model": "word_level"},
}


class Rows:
    """Rows in memory: 17, so that one is left for the last step of an epoch, and one of two ranks has none."""

    def __init__(self, labels: Field, classes: int) -> None:
        random = np.random.default_rng(7)
        tokens = Field("input_ids", "int64", "ragged", mask="attention_mask", length=True)
        self.fields = {"input_ids": tokens, "labels": labels}
        self._values: dict[str, Any] = {
            "input_ids": [random.integers(5, VOCABULARY, size) for size in random.integers(3, 12, ROWS)],
            "labels": random.integers(0, classes, ROWS),
        }
        if labels.shape == "ragged":
            self._values["labels"] = [random.integers(5, VOCABULARY, size) for size in random.integers(2, 9, ROWS)]
        self.lengths = np.array([len(ids) for ids in self._values["input_ids"]], np.int32)

    def __len__(self) -> int:
        return ROWS

    def take(self, rows: np.ndarray) -> dict[str, Any]:
        return {
            name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
            for name, values in self._values.items()
        }


def curves(file: str, folder: Path) -> dict[str, tuple[Any, Any]]:
    """What `train` found in one rank and in two, by ZeRO stage."""
    (folder / "bert.json").write_text(json.dumps(BERT))
    started = []
    for ranks in (1, 2):
        for rank in range(ranks):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
            place |= {"DEEPGEN_RENDEZVOUS": f"file://{folder}/meet-{ranks}", "XDG_CACHE_HOME": str(folder)}
            place["PYTHONPATH"] = str(Path(__file__).parent)
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            command = [sys.executable, file, str(folder), f"{ranks}.json"]
            started.append(subprocess.Popen(command, env={**os.environ, **place}, **pipes))
    for process in started:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said[-3000:]
    one, two = (json.loads((folder / f"{ranks}.json").read_text()) for ranks in (1, 2))
    assert list(one) == ["ZeRO 1", "ZeRO 3"]
    assert all(len(curve) == STEPS + 1 and curve[0] != curve[STEPS - 1] for curve in one.values())
    return {stage: (one[stage], two[stage]) for stage in one}


def train(task: str, labels: Labels, options: Mapping[str, Any]) -> None:
    """One rank: loss and gradient norm of each step of an epoch and more, then a digest of the weights and answers."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    engine = Engine.start(EngineSettings(bf16=False))
    found: dict[str, Any] = {}
    for stage in (1, 3):
        torch.manual_seed(3)
        model: Any = find("model", task).plugin(**options)
        pretrained = Pretrained(PretrainedSettings(model=f"scratch:{folder / 'bert.json'}"), lambda: ["a b c"])
        module = model.build(pretrained, labels)
        engine.settings = EngineSettings(zero_stage=stage, bf16=False)
        engine.config = {}
        per_device = GLOBAL_BATCH // engine.ranks
        engine.prepare(module, Optimization(learning_rate=1e-2), total_steps=9, per_device=per_device, accumulation=1)
        engine.module.train()
        rows: Any = Rows(labels.field, labels.size)
        settings = BatchSettings(per_device_train_batch_size=per_device)
        data = TrainBatches(rows, Padding(), settings, 1, engine.ranks, engine.rank, seed=5)
        curve: list[list[float]] = []
        for micro_batches in [step for epoch in range(2) for step in data.epoch(epoch)][:STEPS]:
            result = engine.train_step(micro_batches, model.loss, model.count)
            curve.append([float(result.loss), float(result.grad_norm or 0)])
        state = engine.state_dict()  # a bias that changes no answer has a gradient of 0, of which Adam makes noise
        digest = [float(value.double().abs().sum()) for name, value in state.items() if "key.bias" not in name]
        found[f"ZeRO {stage}"] = [*curve, digest]
    if engine.rank == 0:
        (folder / name).write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
