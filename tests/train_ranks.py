"""Programs that run as one real rank and as two, for tests that both find the same; one trains a small new BERT.

A test file that calls `curves(__file__, …)` is each of the ranks too: run as a program, it calls `train`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
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


TEXT = Field("input_ids", "int64", "ragged", mask="attention_mask", length=True)


class Rows:
    """Rows in memory: 17, so that one is left for the last step of an epoch, and one of two ranks has none."""

    def __init__(self, fields: Sequence[Field], classes: int = 2, tokens: tuple[int, int] = (5, VOCABULARY)) -> None:
        random = np.random.default_rng(7)
        self.fields = {field.name: field for field in fields}
        self._values: dict[str, Any] = {
            name: [random.integers(*tokens, size) for size in random.integers(3, 12, ROWS)]
            if field.shape == "ragged"
            else random.integers(0, classes, ROWS)
            for name, field in self.fields.items()
        }
        counted = [values for name, values in self._values.items() if self.fields[name].length]
        self.lengths = np.array([sum(map(len, row)) for row in zip(*counted, strict=True)], np.int32)

    def __len__(self) -> int:
        return ROWS

    def take(self, rows: np.ndarray) -> dict[str, Any]:
        return {
            name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
            for name, values in self._values.items()
        }


def one_and_two(folder: Path, *program: str) -> tuple[Any, Any]:
    """What rank 0 of a Python program writes as JSON to the path in its last argument, as one rank and as two."""
    started, here = [], Path(__file__).parent
    for ranks, rank in ((1, 0), (2, 0), (2, 1)):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
        place |= {"DEEPGEN_RENDEZVOUS": f"file://{folder}/meet-{ranks}", "XDG_CACHE_HOME": str(folder)}
        place["PYTHONPATH"] = str(here)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = [sys.executable, *program, str(folder / f"{ranks}.json")]
        started.append(subprocess.Popen(command, cwd=here, env={**os.environ, **place}, **pipes))
    for process in started:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said[-3000:]
    one, two = (json.loads((folder / f"{ranks}.json").read_text()) for ranks in (1, 2))
    return one, two


def curves(file: str, folder: Path) -> dict[str, tuple[Any, Any]]:
    """What `train` found in one rank and in two, by ZeRO stage."""
    (folder / "bert.json").write_text(json.dumps(BERT))
    one, two = one_and_two(folder, file)
    assert list(one) == ["ZeRO 1", "ZeRO 3"]
    assert all(len(curve) == STEPS + 1 and curve[0] != curve[STEPS - 1] for curve in one.values())
    return {stage: (one[stage], two[stage]) for stage in one}


def curve(engine: Engine, stage: int, model: Any, module: torch.nn.Module, rows: Any) -> list[list[float]]:
    """Loss and gradient norm of each step of an epoch and more over 17 rows, then a digest of the weights."""
    engine.settings = EngineSettings(zero_stage=stage, bf16=False)  # type: ignore[arg-type]
    engine.config = {}
    per_device = GLOBAL_BATCH // engine.ranks
    engine.prepare(module, Optimization(learning_rate=1e-2), total_steps=9, per_device=per_device, accumulation=1)
    engine.module.train()
    settings = BatchSettings(per_device_train_batch_size=per_device)
    data = TrainBatches(rows, Padding(), settings, 1, engine.ranks, engine.rank, seed=5)
    found: list[list[float]] = []
    for micro_batches in [step for epoch in range(2) for step in data.epoch(epoch)][:STEPS]:
        result = engine.train_step(micro_batches, model.loss, model.count)
        found.append([float(result.loss), float(result.grad_norm or 0)])
    idle = ("key.bias", "k_proj.bias")  # they change no answer: their gradient is 0, of which Adam makes noise
    state = {name: value for name, value in engine.state_dict().items() if not name.endswith(idle)}
    return [*found, [float(value.double().abs().sum()) for value in state.values()]]


def train(task: str, labels: Labels, options: Mapping[str, Any]) -> None:
    """One rank: the curve of a task at ZeRO 1 and 3."""
    out = Path(sys.argv[1])
    engine = Engine.start(EngineSettings(bf16=False))
    found: dict[str, Any] = {}
    for stage in (1, 3):
        torch.manual_seed(3)
        model: Any = find("model", task).plugin(**options)
        pretrained = Pretrained(PretrainedSettings(model=f"scratch:{out.with_name('bert.json')}"), lambda: ["a b c"])
        module = model.build(pretrained, labels)
        found[f"ZeRO {stage}"] = curve(engine, stage, model, module, Rows((TEXT, labels.field), labels.size))
    if engine.rank == 0:
        out.write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
