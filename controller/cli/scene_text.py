"""A scene on its way to the controller: by name, or its text with the paths in it made absolute."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...kernel.errors import SceneError
from ...kernel.old_scene import as_meant, is_argument_file
from ...kernel.sources import SCENES, Given, read_scene_file, read_tokens, shown_path

PATHS = (
    "plugin",
    "model",
    "previous_dir",
    "train_dir",
    "eval_dir",
    "predict_dir",
    "cache_dir",
    "nvme_path",
    "deepspeed",
)
"""The kernel's settings that are paths; to ask the kernel for them takes longer than all the rest of a command."""


@dataclass
class Parcel:
    """What a job says of its scene."""

    name: str = ""
    """Of a scene that the controller has, or the path of a model folder."""
    text: str = ""
    """Of a scene file, where there is no name."""
    overrides: dict[str, str] = field(default_factory=dict)
    ranks: int = 0
    file: str = ""
    """That the text is of, as a person would write it."""


def parcel(reference: str, tokens: Sequence[str]) -> Parcel:
    """What `deepgen run REFERENCE TOKENS` would run, for a controller that may have another working folder.

    A scene that comes with DeepGen goes by its name. A file goes with its text, in which each path is made absolute as
    the kernel does it: against the file, and on the command line against the working folder.

    Raises:
        SceneError: no such file, or settings that cannot be run, with file and line.
    """
    given = read_tokens(tokens)
    path = _own_file(reference)
    folder = Path(reference).expanduser()
    if path is None and folder.is_dir():
        return Parcel(str(folder.resolve()), "", *_overrides(given))
    if path is None and not folder.is_absolute() and (folder.parent != Path() or folder.suffix in (".yaml", ".yml")):
        raise SceneError(f"scene '{reference}': no such file here; give a name (`deepgen scenes --server`) or a file")
    if path is None:
        return Parcel(reference, "", *_overrides(given))
    text, inside = _absolute(path, given)
    overrides, ranks = _overrides(given)
    if not inside.get("name") and "name" not in overrides:
        overrides["name"] = path.stem
    return Parcel("", text, overrides, ranks or _ranks(inside.get("num_ranks")), shown_path(path))


def _own_file(reference: str) -> Path | None:
    """The scene file that the name or path stands for, unless it is one that comes with DeepGen."""
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    mine = Path("scenes") / f"{reference}.yaml"
    return mine if mine.is_file() and mine.resolve() != (SCENES / mine.name).resolve() else None


def _overrides(given: Sequence[Given]) -> tuple[dict[str, str], int]:
    """The settings of the command line, and the ranks, which are the job's own."""
    overrides: dict[str, str] = {}
    ranks = 0
    for item in given:
        if item.name == "num_ranks":
            ranks = _ranks(item.raw) or _refuse_ranks(item)
            continue
        value = _resolved(item)
        text = value if isinstance(value, str) else ",".join(value) if value else str(item.raw)
        adds_up = item.name == "plugin" and overrides.get("plugin")
        overrides[item.name] = f"{overrides['plugin']},{text}" if adds_up else text
    return overrides, ranks


def _absolute(path: Path, typed: Sequence[Given]) -> tuple[str, dict[str, object]]:
    """The text of a scene file with its paths made absolute, and the settings in it; each keeps its line.

    An argument file becomes YAML, with what it means beside the settings of the command line.
    """
    _, given, _ = read_scene_file(str(path))
    if is_argument_file(path):
        given = [item for item in as_meant([*given, *typed], []) if item not in typed]
    settings: dict[str, object] = {item.name: item.raw for item in given}
    changed: dict[str, object] = {
        item.name: value for item in given if (value := _resolved(item)) is not None and value != item.raw
    }
    if settings.get("num_ranks") is not None:
        changed["num_ranks"] = None  # the job says it
    if is_argument_file(path):
        whole = {**settings, **changed}
        lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in whole.items()]
        return f"# Made from {path.name}.\n{''.join(lines)}", settings
    return _replaced(path.read_text(encoding="utf-8"), changed), settings


def _replaced(text: str, changed: Mapping[str, object]) -> str:
    """YAML text with other values for some settings of its first level."""
    import yaml

    document = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        return text
    for key, node in reversed(document.value):
        if key.value in changed:
            begin, end = node.start_mark.index, node.end_mark.index
            gone = text[begin:end]
            # A block (`- a` lines) ends where the next setting begins: as many lines as it had are kept.
            ends = "\n" * gone.count("\n") if not gone.lstrip().startswith(("[", "'", '"')) else ""
            text = text[:begin] + json.dumps(changed[key.value], ensure_ascii=False) + ends + text[end:]
    return text


def _resolved(item: Given) -> str | list[str] | None:
    """The absolute value of a setting that is a path or several; None of any other."""
    raw = item.raw
    if item.name not in PATHS or item.bare or not raw:
        return None
    if not isinstance(raw, str):
        return [str(item.resolve(one)) for one in raw] if isinstance(raw, list) else None
    if item.name == "plugin":
        return [str(item.resolve(one.strip())) for one in raw.split(",")]
    if item.name == "deepspeed" and raw.lstrip().startswith("{"):
        return None
    return str(item.resolve(raw, is_model=item.name == "model"))


def _ranks(raw: object) -> int:
    return int(raw) if isinstance(raw, str) and raw.isascii() and raw.isdecimal() else 0


def _refuse_ranks(item: Given) -> int:
    raise SceneError(f"{item.place} = {item.shown} is not a whole number from 1 on")
