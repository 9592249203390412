"""One rank of the tests of LoRA: `python -m kernel.lora_ranks OUT` in tests/, with the launcher's variables set.

As engine_ranks.py: many small trainings in one process, and rank 0 writes what came out as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deepgen.kernel.engine import Engine, EngineSettings

from .engine_ranks import resume, train


def main() -> None:
    out = Path(sys.argv[1])
    folder = out.with_suffix("")
    engine = Engine.start(EngineSettings(bf16=False))
    found: dict[str, Any] = {}
    for stage in (0, 1, 2, 3):
        engine.settings = EngineSettings(zero_stage=stage, bf16=False)
        half = replace(engine, settings=EngineSettings(zero_stage=stage), dtype=torch.bfloat16)
        for task in ("classification", "causal_lm"):
            for accumulation in (1, 2):
                name = f"{task} {stage} {accumulation}"
                found[name] = train(engine, f"lora {task}", folder / name.replace(" ", "-"), accumulation)
        found[f"bf16 {stage}"] = train(half, "lora classification", folder / f"bf16-{stage}", 1)
        if engine.ranks == 2:
            found[f"resume {stage}"] = resume(engine, folder / f"resume-{stage}", "lora classification")
    if engine.ranks == 1:
        engine.settings = EngineSettings(bf16=False, gradient_checkpointing=True)
        found["gradient checkpointing"] = train(engine, "lora classification", folder / "checkpointing", 1)
    if engine.ranks == 2:
        found["resume bf16"] = resume(half, folder / "resume-bf16", "lora classification")
    if engine.rank == 0:
        out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
