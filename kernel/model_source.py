"""Finds the folder of a model by what a scene calls it: a hub id, a folder, a package or a scratch file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from . import scratch
from .errors import SceneError


def find(model: str | None, previous_dir: str | None) -> tuple[bool, str]:
    """Whether the model is made from scratch, and its folder, scratch file or hub id.

    Raises:
        SceneError: no model is named, or there is none of that name.
    """
    if model is None and previous_dir is not None:
        model = "local"
    if model is None:
        raise SceneError("model is not set; give a hub id, a folder, package:NAME or scratch:FILE")
    if model == "local":
        if previous_dir is None:
            raise SceneError("model = 'local' means the model in previous_dir, which is not set")
        model = previous_dir
    prefix, _, rest = model.partition(":")
    if prefix == "package":
        return False, str(package_folder(rest))
    if prefix == "scratch":
        if not Path(rest).is_file():
            raise SceneError(f"model = '{model}': no such file")
        scratch.check(Path(rest))
        return True, rest
    path = Path(model).expanduser()
    if path.is_dir():
        # a run folder means the model it has made
        folder = path / "model" if (path / "model" / "config.json").is_file() else path
        if not (folder / "config.json").is_file():
            raise SceneError(f"model = '{model}': the folder has no config.json, so it is no model folder")
        return False, str(folder)
    if path.exists() or path.is_absolute() or model.startswith("."):
        raise SceneError(f"model = '{model}': {'not a folder' if path.exists() else 'no such folder'}")
    return False, model


def package_folder(name: str) -> Path:
    """The model folder inside an installed package, found without importing it: `NAME`, or `NAME/FOLDER` of several.

    Raises:
        SceneError: no such package, or not one model folder in it.
    """
    module, _, below = name.replace("-", "_").partition("/")
    below = name.partition("/")[2]
    try:
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise SceneError(f"model = 'package:{name}': no package '{module}' is installed here; `pip install` it")
    root = Path(next(iter(spec.submodule_search_locations)))
    if below:
        if not (root / below / "config.json").is_file():
            raise SceneError(f"model = 'package:{name}': the package has no {below}/config.json")
        return root / below
    folders = _model_folders(root)
    if not folders:
        raise SceneError(f"model = 'package:{name}': the package holds no model (a folder with config.json)")
    if len(folders) > 1:
        names = ", ".join(f"package:{module}/{folder.relative_to(root)}" for folder in folders)
        raise SceneError(f"model = 'package:{name}': the package holds several models; choose one of {names}")
    return folders[0]


def tokenizer_files(folder: Path, *others: str) -> list[Path]:
    """What decides, in a model folder, how text becomes token ids; and other files, as far as they are there."""
    patterns = ("*token*.json", "vocab*", "merges.txt", "*.model", "*.spm", *others)
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _model_folders(root: Path) -> list[Path]:
    """The folders with a model's config; a folder inside a model (sentence-transformers' modules) is part of it."""
    found = sorted({path.parent for path in root.rglob("config.json") if _names_architecture(path)})
    return [folder for folder in found if not any(other in folder.parents for other in found)]


def _names_architecture(config: Path) -> bool:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and "model_type" in content
