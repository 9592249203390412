"""One rank of the test of `twinbert` on several: `python twinbert_ranks.py OUT`, with the launcher's variables set.

Rank 0 writes the curve of each way to learn, at each ZeRO stage, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from train_ranks import Rows, curve

from deepgen.kernel.contracts import Field, Labels
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

LABELS = Field("labels", "int64")
PAIR = [Field(f"{side}_input_ids", "int64", "ragged", mask=f"{side}_attention_mask", length=True) for side in "qd"]
WAYS: dict[str, dict[str, Any]] = {
    "in_batch": {"num_hidden_layers": 1},
    "two towers": {"shared_tower": False, "embedding_size": 6, "tanh_activation": True, "both_directions": False},
    "pair": {"crossing": "residual", "post_crossing_layers": 1, "post_crossing_size": 5},
}


def train(engine: Engine, config: Path, way: str, stage: int) -> list[list[float]]:
    torch.manual_seed(3)
    model: Any = find("model", "twinbert").plugin(**WAYS[way])
    pretrained = Pretrained(PretrainedSettings(model=f"scratch:{config}"), lambda: ["a b c"])
    module = model.build(pretrained, Labels(LABELS, 2) if way == "pair" else None)
    return curve(engine, stage, model, module, Rows([*PAIR, LABELS]))


if __name__ == "__main__":
    here, out = Engine.start(EngineSettings(bf16=False)), Path(sys.argv[1])
    curves = {
        f"{way} {stage}": train(here, out.with_name("bert.json"), way, stage) for way in WAYS for stage in (0, 1, 2, 3)
    }
    if here.rank == 0:
        out.write_text(json.dumps(curves), encoding="utf-8")
    os._exit(0)  # as the worker ends: what libraries leave running may abort a process that takes itself apart
