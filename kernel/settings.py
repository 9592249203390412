"""All settings of the kernel: each is declared in the module that reads it and listed here once."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence

from .options import Raw
from .scene import Scene, resolve

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


def load(reference: str | None, tokens: Sequence[str], *, defaults: Mapping[str, Raw] | None = None) -> Scene:
    """The scene of a name or path with `--name value` tokens over it; see `scene.resolve`."""
    return resolve(reference, tokens, KERNEL, defaults=defaults)
