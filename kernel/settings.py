"""All settings of the kernel: each is declared in the module that reads it and listed here once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .batches import BatchSettings
from .caches import CacheSettings
from .engine import EngineSettings
from .errors import SceneError
from .features import FeatureSettings
from .lora import LoraSettings
from .parsing import Raw
from .pretrained import PretrainedSettings
from .record import SCENE_FILE
from .resolve import resolve
from .results import ResultSettings
from .rows import RowSettings
from .run import RunSettings, splits
from .scene import Scene, SceneSettings
from .tracking import TrackingSettings

KERNEL: tuple[type, ...] = (
    SceneSettings,
    RunSettings,
    PretrainedSettings,
    LoraSettings,
    RowSettings,
    CacheSettings,
    FeatureSettings,
    BatchSettings,
    EngineSettings,
    ResultSettings,
    TrackingSettings,
)


def load(reference: str | None, tokens: Sequence[str]) -> Scene:
    """The scene of a name, a path or a model folder, with `--name value` tokens over it; see `resolve.resolve`.

    A model folder predicts: its scene gives the headers and options, the folder itself is the model.
    """
    folder = None if reference is None else model_folder(reference)
    if folder is None:
        return resolve(reference, tokens, KERNEL, splits=splits)
    overrides: dict[str, Raw] = {
        "model": str(folder),
        "previous_dir": None,
        "do_train": "false",
        "do_eval": "false",
        "do_predict": "true",
        "output_dir": None,
        "result_file": None,
        "tracking": "false",
        "logging_dir": None,
    }
    scene = resolve(str(folder / SCENE_FILE), tokens, KERNEL, overrides=overrides, splits=splits)
    scene.name += "-predict"
    return scene


def finished_model(given: str, where: str) -> Path:
    """The model folder of that path, or of a run folder of that path.

    Raises:
        SceneError: there is none; the message opens with `where`.
    """
    folder = model_folder(given)
    if folder is None:
        there = Path(given).expanduser().is_dir()
        problem = f"no {SCENE_FILE} beside a config.json in it" if there else "no such folder"
        raise SceneError(f"{where} {given}: {problem}; give the model folder of a finished run")
    return folder


def model_folder(given: str) -> Path | None:
    """The model folder of that path, or of a run folder of that path; None where there is neither."""
    path = Path(given).expanduser()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file() and (folder / SCENE_FILE).is_file():
            return folder.resolve()
    return None
