"""The resolved scene as a file: every value with its origin as a comment, and loadable as a scene again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from .parsing import plain
from .scene import Scene, Value
from .sources import DEFAULTS, ELSEWHERE

SCENE_FILE = "scene.yaml"
"""Its name in a run folder and in a model folder."""


def write_resolved(scene: Scene, path: Path) -> None:
    """Writes the resolved scene aside and renames it to `path`."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(resolved_text(scene), encoding="utf-8")
    aside.replace(path)


def resolved_text(scene: Scene) -> str:
    """The resolved scene as YAML. What nobody set stands under `defaults`, so that it is no user's choice when read."""
    lines = [f"# Scene {scene.name} as it was resolved: each setting with its value and where that was given."]
    values = [value for value in scene.values.values() if value.option.name != "name"]
    lines.append(_line("name", scene.name, ""))
    lines += [_line(value.option.name, value.value, str(value.origin)) for value in values if value.is_set]
    lines += ["", f"{DEFAULTS}:"]
    lines += ["  " + _line(value.option.name, value.value, "") for value in values if not value.is_set]
    if scene.elsewhere:
        said = {endpoint: list(texts) for endpoint, texts in scene.elsewhere.items()}
        lines += ["", yaml.safe_dump({ELSEWHERE: said}, allow_unicode=True, width=10**9).rstrip()]
    return "\n".join(lines) + "\n"


def plain_settings(text: str) -> dict[str, Any]:
    """The settings of a resolved scene by name, defaults among them, as YAML reads them."""
    content = dict(yaml.safe_load(text) or {})
    content.pop(ELSEWHERE, None)
    return {**content.pop(DEFAULTS, {}), **content}


def text_of(value: Value) -> str:
    """A value as one writes it on the command line; mappings as JSON."""
    return plain(value.value)


def _line(name: str, value: Any, origin: str) -> str:
    body = yaml.safe_dump(
        list(value) if isinstance(value, tuple) else value,
        default_flow_style=True,
        allow_unicode=True,
        width=10**9,
    )
    body = body.removesuffix("...\n").strip()
    return f"{name}: {body}" + (f"  # {origin}" if origin else "")


def short_text(scene: Scene, folder: Path) -> str:
    """The scene as one would write it in a folder: only what was set, in that order, and paths relative to the folder.

    Read from there, each setting has the same value.
    """
    values = [value for value in scene.values.values() if value.is_set]
    values.sort(key=lambda value: (value.origin.kind == "command line", value.origin.line))
    return "".join(_line(value.option.name, _written(value, folder), "") + "\n" for value in values)


def _written(value: Value, folder: Path) -> Any:
    """What stands in a scene for a value: text where it reads as the same."""
    content = _relative(value, folder) if value.option.is_path else value.value
    if isinstance(content, dict) and all(isinstance(part, str) for part in content.values()):
        texts = ",".join(f"{key}:{part}" for key, part in content.items())
    elif isinstance(content, tuple):
        texts = ",".join(str(part) for part in content)
    else:
        return content
    try:
        return texts if texts and value.option.parse(texts) == content else content
    except ValueError:
        return content


def _relative(value: Value, folder: Path) -> Any:
    def one(path: Any) -> Any:
        if not isinstance(path, str):
            return path
        prefix, _, rest = path.partition(":")
        if prefix == "scratch":
            return f"scratch:{one(rest)}"
        shown = os.path.relpath(path, folder) if Path(path).is_absolute() else path
        return f"./{shown}" if value.option.is_model and shown != path and not shown.startswith(".") else shown

    return tuple(map(one, value.value)) if isinstance(value.value, tuple) else one(value.value)
