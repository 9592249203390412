"""One rank of the engine's tests: `python engine_ranks.py OUT STAGES`, with the launcher's variables set.

Importing DeepSpeed takes seconds, so each rank goes through many small trainings in one process and rank 0 writes
what came out as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    LlamaConfig,
)

from deepgen.kernel.batches import BatchSettings, Padding, TrainBatches
from deepgen.kernel.checkpoints import Checkpoints
from deepgen.kernel.contracts import Field, Labels, Model
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.errors import Interrupted
from deepgen.kernel.events import EventStream, Silent, read_events
from deepgen.kernel.lora import Adapter, LoraSettings
from deepgen.kernel.training import Run
from deepgen.plugins.models.causal_lm import CausalLM
from deepgen.plugins.models.seq2label import Seq2Label
from deepgen.plugins.models.seq2seq import Seq2Seq
from deepgen.plugins.trainers.common import Common

HEADS = frozenset({"classifier.weight", "classifier.bias"})
GLOBAL_BATCH = 8
ROWS = 17


class Rows:
    """Ragged features in memory: 17 rows, so that one is left for the last step of an epoch."""

    def __init__(self, labels: Field) -> None:
        random = np.random.default_rng(7)
        self.fields = {
            "input_ids": Field("input_ids", "int64", "ragged", padding=0, mask="attention_mask", length=True),
            "labels": labels,
        }
        self.lengths = random.integers(3, 12, ROWS).astype(np.int32)
        self._ids = [random.integers(5, 60, length) for length in self.lengths]
        if labels.shape == "ragged" and labels.side == "tokenizer":
            # beside the tokens, and of every row only a part is learned
            self._labels: Any = [
                np.where(np.arange(len(ids)) < random.integers(1, len(ids)), -100, ids) for ids in self._ids
            ]
        elif labels.shape == "ragged":
            self._labels = [random.integers(5, 60, random.integers(1, 9)) for _ in range(ROWS)]
        elif labels.dtype == "float32":
            self._labels = random.normal(size=ROWS).astype(np.float32)
        else:
            self._labels = random.integers(0, 3, ROWS)

    def __len__(self) -> int:
        return ROWS

    def take(self, rows: np.ndarray) -> dict[str, Any]:
        labels = self._labels[rows] if isinstance(self._labels, np.ndarray) else [self._labels[row] for row in rows]
        return {"input_ids": [self._ids[row] for row in rows], "labels": labels}


class Scratch:
    """New weights of a tiny architecture."""

    def __init__(self, config: Any, auto: Any) -> None:
        self.config, self._auto = config, auto
        self.tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=2)
        self.positions = None

    def load(self, name: str, **settings: Any) -> torch.nn.Module:
        for key, value in settings.items():
            setattr(self.config, key, value)
        module: torch.nn.Module = self._auto.from_config(self.config)
        return module


def build(task: str, dropout: float = 0.0) -> tuple[Model, torch.nn.Module, Rows]:
    """A task with a tiny model of it and rows; `lora TASK` has low-rank matrices beside its weights."""
    torch.manual_seed(3)
    adapts, task = task.startswith("lora "), task.removeprefix("lora ")
    small: dict[str, Any] = {"vocab_size": 64, "pad_token_id": 0}
    if task == "seq2seq":
        config: Any = BartConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32, dropout=dropout,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2, **small,
        )  # fmt: skip
        model: Any = Seq2Seq(max_new_tokens=5)
        labels = Field("labels", "int64", "ragged", padding=-100, side="right")
        module = model.build(Scratch(config, AutoModelForSeq2SeqLM), Labels(labels, 64))
    elif task == "causal_lm":
        config = LlamaConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, bos_token_id=1,
            eos_token_id=2, max_position_embeddings=32, attention_dropout=dropout, **small,
        )  # fmt: skip
        model = CausalLM(max_new_tokens=5)
        labels = Field("labels", "int64", "ragged", padding=-100)
        module = model.build(Scratch(config, AutoModelForCausalLM), Labels(labels, 64))
    else:
        config = BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **small,
        )  # fmt: skip
        model = Seq2Label()
        labels = Field("labels", "int64" if task == "classification" else "float32")
        size = 3 if task == "classification" else 1
        module = model.build(Scratch(config, AutoModelForSequenceClassification), Labels(labels, size))
        module.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
        module.bert.embeddings.token_type_embeddings.requires_grad_(False)
    if adapts:
        settings = LoraSettings(use_peft=True, lora_rank=4, lora_dropout=dropout)
        Adapter.put_into(module, settings, HEADS, model.problem(labels))
    return model, module, Rows(labels)


Build = Callable[[float], tuple[Model, torch.nn.Module, Any]]
"""Makes, of a rate of dropout, what `build` makes of a task's name too."""


def new_run(engine: Engine, task: str | Build, folder: Path, *, dropout: float = 0.0, accumulation: int = 1) -> Run:
    """Everything a trainer needs, over the tiny model; the score of an evaluation gets better up to its third call."""
    model, module, rows = build(task, dropout) if isinstance(task, str) else task(dropout)
    per_device = GLOBAL_BATCH // engine.ranks // accumulation
    calls: list[int] = []

    def evaluate() -> Mapping[str, float]:
        calls.append(1)
        torch.rand(5)  # an evaluation may draw random numbers
        return {"eval_loss": 1.0, "eval_acc": [0.2, 0.4, 0.9, 0.5, 0.6, 0.7, 0.8][len(calls) - 1]}

    def train_data(accumulation: int) -> TrainBatches:
        settings = BatchSettings(per_device_train_batch_size=per_device)
        return TrainBatches(rows, Padding(), settings, accumulation, engine.ranks, engine.rank, seed=5)  # type: ignore[arg-type]

    return Run(
        scene=None,  # type: ignore[arg-type]
        engine=engine,
        model=model,
        module=module,
        new_parameters=HEADS,
        train_data=train_data,
        per_device=per_device,
        evaluate=evaluate,
        score="eval_acc",
        higher_is_better=True,
        events=EventStream(folder) if engine.rank == 0 else Silent(),
        checkpoints=Checkpoints(folder / "checkpoints", engine),
        seed=11,
        stop=lambda: False,
    )


def curve(folder: Path) -> list[list[float]]:
    """Step, loss, gradient norm and learning rate of each step in a run folder."""
    events = [event.progress for event in read_events(folder / "events.jsonl") if event.HasField("progress")]
    names = ("loss", "grad_norm", "learning_rate")
    return [[event.step, *(event.values[name] for name in names)] for event in events if event.values]


def scored(folder: Path) -> list[list[float]]:
    """Step, score and whether it was the best so far, of each evaluation in a run folder."""
    events = [event.scored for event in read_events(folder / "events.jsonl") if event.HasField("scored")]
    return [[event.step, event.scores["eval_acc"], event.best] for event in events]


def digest(state: Mapping[str, torch.Tensor]) -> list[float]:
    """One number for each weight, without the biases of attention keys: their gradient is 0, so Adam makes noise."""
    return [
        float(t.double().abs().sum()) for name, t in state.items() if not name.endswith(("key.bias", "k_proj.bias"))
    ]


def is_master(state: Mapping[str, torch.Tensor]) -> bool:
    """Float32 all over, and finer than bfloat16 could be."""
    floats = [tensor for tensor in state.values() if tensor.is_floating_point()]
    finer = any((tensor.bfloat16().float() != tensor).any() for tensor in floats)
    return finer and all(tensor.dtype == torch.float32 for tensor in floats)


def train(engine: Engine, task: str, folder: Path, accumulation: int, **options: Any) -> dict[str, Any]:
    """Five steps, which reach into a second epoch."""
    run = new_run(engine, task, folder, accumulation=accumulation)
    settings: dict[str, Any] = {
        "learning_rate": 2e-2, "head_learning_rate": 4e-2, "weight_decay": 0.1, "max_steps": 5, "warmup_steps": 2,
        "max_grad_norm": 0.5, "eval_strategy": "no", "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip
    Common(**settings, gradient_accumulation_steps=accumulation, **options).train(run)
    weights = run.engine.state_dict()
    return {"curve": curve(folder), "weights": digest(weights), "master": is_master(weights)}


def resume(engine: Engine, folder: Path, task: str | Build = "classification") -> dict[str, Any]:
    """The same training with dropout three times: without a break, up to a stop in the middle of an epoch, and on."""
    options: dict[str, Any] = {
        "learning_rate": 2e-2, "max_steps": 8, "warmup_steps": 2, "lr_scheduler_type": "cosine",
        "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 3, "logging_steps": 1,
        "save_total_limit": 2, "load_best_model_at_end": False,
    }  # fmt: skip
    whole = new_run(engine, task, folder / "whole", dropout=0.3)
    Common(**options).train(whole)
    weights = digest(engine.state_dict())
    broken = new_run(engine, task, folder / "broken", dropout=0.3)
    stopping = iter([False] * 3 + [engine.rank == engine.ranks - 1] * 9)  # only the last rank is asked, in step 4
    broken.stop = lambda: next(stopping)
    message = ""
    try:
        Common(**options).train(broken)
    except Interrupted as error:
        message = str(error).replace(str(folder), "")
    stopped = curve(folder / "broken")
    again = new_run(engine, task, folder / "broken", dropout=0.3)
    evaluate = again.evaluate
    assert evaluate is not None
    evaluate()  # that of step 2; the one of step 4 is still due
    Common(**options).train(again)
    return {
        "message": message,
        "whole": curve(folder / "whole"),
        "stopped": stopped,
        "broken": curve(folder / "broken"),
        "scored": [scored(folder / "whole"), scored(folder / "broken")],
        "same_weights": digest(engine.state_dict()) == weights,
        "left": sorted(path.name for path in (folder / "whole" / "checkpoints").iterdir()),
    }


def best(engine: Engine, folder: Path) -> dict[str, Any]:
    """Ends with the weights of the best evaluation, which is the third; stops two evaluations later."""
    weights: list[list[float]] = []
    run = new_run(engine, "classification", folder)
    scores = run.evaluate
    assert scores is not None

    def evaluate() -> Mapping[str, float]:
        weights.append(digest(engine.state_dict()))
        return scores()

    run.evaluate = evaluate
    options: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "no", "learning_rate": 1e-2}
    Common(max_steps=20, early_stopping_patience=2, save_total_limit=1, **options).train(run)
    ended = digest(engine.state_dict())
    return {"evaluations": len(weights), "best": [ended == state for state in weights]}


OWN: dict[str, Any] = {
    "zero_optimization": {"stage": 2},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto", "torch_adam": True}},
}
VARIANTS = {  # other ways to the same curve
    "offload 1": EngineSettings(bf16=False, offload_optimizer="cpu"),
    "offload 3": EngineSettings(bf16=False, zero_stage=3, offload_optimizer="cpu", offload_param="cpu"),
    "gradient checkpointing": EngineSettings(bf16=False, gradient_checkpointing=True),
    "own optimizer": EngineSettings(bf16=False, deepspeed=OWN),
}


def main() -> None:
    out, stages = Path(sys.argv[1]), [int(stage) for stage in sys.argv[2].split(",")]
    folder = out.with_suffix("")
    engine = Engine.start(EngineSettings(bf16=False))
    found: dict[str, Any] = {}
    for name, settings in VARIANTS.items() if engine.ranks == 1 else ():
        engine.settings = settings
        found[name] = train(engine, "classification", folder / name.replace(" ", "-"), 1)
    for stage in stages:
        engine.settings = EngineSettings(zero_stage=stage, bf16=False)  # type: ignore[arg-type]
        tasks = ("classification", "regression", "seq2seq", "causal_lm")
        for task in tasks if stage in (1, 3) else tasks[:1]:
            for accumulation in (1, 2):
                name = f"{task} {stage} {accumulation}"
                found[name] = train(engine, task, folder / name.replace(" ", "-"), accumulation)
        if engine.ranks == 2:
            found[f"resume {stage}"] = resume(engine, folder / f"resume-{stage}")
            found[f"best {stage}"] = best(engine, folder / f"best-{stage}")
        half = replace(engine, settings=EngineSettings(zero_stage=stage), dtype=torch.bfloat16)  # type: ignore[arg-type]
        for accumulation in (1, 2):
            name = f"bf16 {stage} {accumulation}"
            found[name] = train(half, "classification", folder / name.replace(" ", "-"), accumulation)
        if engine.ranks == 2 and stage < 2:
            found[f"resume bf16 {stage}"] = resume(half, folder / f"resume-bf16-{stage}")
    if engine.rank == 0:
        out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
    # As the worker ends: what libraries leave running may abort a process that takes itself apart.
    os._exit(0)
