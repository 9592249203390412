"""The model folder: a Hugging Face folder with the scene beside it, so that `predict --from` needs nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .endpoints import is_endpoint
from .record import SCENE_FILE, write_resolved

if TYPE_CHECKING:
    from .engine import Engine
    from .lora import Adapter
    from .pretrained import Pretrained
    from .scene import Scene


def save_model(
    scene: Scene, engine: Engine, pretrained: Pretrained, folder: Path, adapter: Adapter | None = None
) -> None:
    """Writes float32 weights, config, tokenizer and scene aside and renames them to `folder`; every rank calls it."""
    state = engine.state_dict()
    if engine.rank == 0:
        aside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        if adapter is not None and adapter.settings.lora_save == "adapter":
            adapter.save(engine.module, state, aside, pretrained.source)
        else:
            scene.model.save(engine.module, adapter.merged(engine.module, state) if adapter else state, aside)
        pretrained.save_tokenizer(aside)
        _name_dtype(aside / "config.json")
        values = dict(scene.values)
        for name, value in scene.model.decided().items():
            values[name] = replace(values[name], value=value)
        plugins = copy_plugins(scene, aside)
        values["plugin"] = replace(values["plugin"], value=plugins)
        write_resolved(replace(scene, values=values), aside / SCENE_FILE)
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    engine.barrier()


def copy_plugins(scene: Scene, folder: Path) -> tuple[str, ...]:
    """Puts the scene's own plugin files into a model folder; gives their paths as the scene in it names them.

    Plugins in other processes stay where they are.
    """
    names: list[str] = []
    for plugin in scene.settings.plugin:
        if is_endpoint(plugin):
            names.append(plugin)
            continue
        file = Path(plugin)
        name = f"plugins/{file.name}" if f"plugins/{file.name}" not in names else f"plugins/{len(names)}_{file.name}"
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / name)
        names.append(name)
    return tuple(names)


def _name_dtype(config: Path) -> None:
    """The config names the type that the module computed in; the weights in the folder are float32."""
    content = json.loads(config.read_text(encoding="utf-8"))
    content["dtype"] = "float32"
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
