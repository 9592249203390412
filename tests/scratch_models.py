"""Models with small new weights from scratch files, and the texts their tokenizers know, for tests of generation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deepgen.kernel.contracts import Field, Labels
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings

SOURCES, TARGETS = ["c a t", "b o a t", "d o"], ["K AE T", "B OW T", "D UW UW UW"]
BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 32,
}
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1},
    "bart": BART,
    "marian": BART,
    "pegasus": BART,
    "mbart": BART,
    "m2m_100": BART,
}
TOKENS = Labels(Field("labels", "int64", "ragged", padding=-100, side="right"), 1)
"""What is known of targets."""


def scratch(folder: Path, kind: str, config: Mapping[str, Any], texts: list[str], **settings: Any) -> Pretrained:
    """A model of that `model_type`, with a tokenizer of whole words unless the config has one."""
    file = folder / f"{kind}.json"
    file.write_text(json.dumps({"model_type": kind, "tokenizer": {"model": "word_level"}, **config}))
    return Pretrained(PretrainedSettings(model=f"scratch:{file}", **settings), lambda: texts)


def spread(module: torch.nn.Module, deviation: float) -> None:
    """Draws the matrices anew: weights as they are drawn would make near the same text of everything."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, deviation)
