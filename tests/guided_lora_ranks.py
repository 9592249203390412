"""One rank of the tests of `guided_seq2seq` under LoRA: `python guided_lora_ranks.py OUT`, as the launcher does."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from guided_models import scratch, task
from scratch_models import TOKENS
from train_ranks import TEXT, Rows, curve

from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.lora import Adapter, LoraSettings

KINDS: dict[str, dict[str, Any]] = {"t5": {}, "bart": {"scale_embedding": True}}
WHOLE = {"prior", "posterior"}
"""What of the task's own learns whole, beside the latents."""


def build(folder: Path, kind: str, dropout: float = 0.0) -> tuple[Any, Any, Any]:
    """A task, its module with the same weights on each rank, and rows."""
    rate = {"dropout_rate" if kind == "t5" else "dropout": dropout}
    torch.manual_seed(3)
    model = task(max_new_tokens=5, kl_loss_weight=0.1)
    pretrained = scratch(folder, kind, **KINDS[kind], **rate)
    module: Any = model.build(pretrained, None)
    lora = LoraSettings(use_peft=True, lora_rank=4, lora_dropout=dropout)
    heads = frozenset(name for name, _ in module.named_parameters() if name.split(".")[0] in WHOLE)
    Adapter.put_into(module, lora, heads, "text", pretrained.own_tokens)
    return model, module, Rows((TEXT, TOKENS.field), tokens=(4, 16))


def train(engine: Engine, folder: Path, kind: str, stage: int) -> list[list[float]]:
    """The curve, after which it has to answer."""
    model, module, rows = build(folder, kind)
    found = curve(engine, stage, model, module, rows)
    engine.module.eval()
    ids = torch.tensor([[5, 6, 7]])
    made = model.predict(engine.module, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert len(made["texts"][0]) == 2
    return found


def main() -> None:
    from kernel.engine_ranks import resume  # of tests/, where the program runs

    out = Path(sys.argv[1])
    folder = out.with_suffix("")
    engine = Engine.start(EngineSettings(bf16=False))
    place = out.parent / f"{engine.ranks}-{engine.rank}"
    place.mkdir()
    half = replace(engine, dtype=torch.bfloat16)
    results: dict[str, Any] = {}
    for kind in KINDS:
        for stage in (0, 1, 2, 3):
            results[f"{kind} {stage}"] = train(engine, place, kind, stage)
    for stage in (0, 3):
        results[f"bf16 {stage}"] = train(half, place, "t5", stage)
    if engine.ranks == 2:
        engine.settings, engine.config = EngineSettings(zero_stage=3, bf16=False), {}
        results["resume"] = resume(engine, folder, partial(build, place, "t5"))
    if engine.rank == 0:
        out.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
