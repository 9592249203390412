"""All settings of the kernel: each is declared in the module that reads it and listed here once."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from .record import SCENE_FILE
from .resolve import resolve
from .scene import Scene

_OWNERS = (
    ("scene", "SceneSettings"),
    ("run", "RunSettings"),
    ("rows", "RowSettings"),
    ("features", "FeatureSettings"),
    ("batches", "BatchSettings"),
    ("pretrained", "PretrainedSettings"),
    ("engine", "EngineSettings"),
    ("results", "ResultSettings"),
    ("tracking", "TrackingSettings"),
)


def _kernel() -> tuple[type, ...]:
    found = []
    for module, name in _OWNERS:
        if importlib.util.find_spec(f"..{module}", __name__) is not None:  # while the parts are being built
            owner = vars(importlib.import_module(f"..{module}", __name__)).get(name)
            found += [owner] if owner else []
    return tuple(found)


KERNEL: tuple[type, ...] = _kernel()


def load(reference: str | None, tokens: Sequence[str]) -> Scene:
    """The scene of a name, a path or a model folder, with `--name value` tokens over it; see `resolve.resolve`.

    A model folder predicts: its scene gives the headers and options, the folder itself is the model.
    """
    if reference is None or not (Path(reference) / SCENE_FILE).is_file():
        return resolve(reference, tokens, KERNEL)
    folder = Path(reference).resolve()
    overrides = {"model": str(folder), "do_train": "false", "do_eval": "false", "do_predict": "true"}
    overrides |= {"output_dir": None, "result_file": None, "tracking": "false"}
    scene = resolve(str(folder / SCENE_FILE), tokens, KERNEL, overrides=overrides)
    scene.name += "-predict"
    return scene
