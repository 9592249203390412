"""`deepgen scenes`: the scenes that can be named, each with the comment that says what it is for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...kernel.errors import UserError
from ...kernel.sources import SCENES
from .arguments import JSON, REMOTE, Option, help_of, read
from .display import print_json

OPTIONS = (Option("server", "", "those of the controller; with a NAME its settings there"), JSON, *REMOTE)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen scenes --help` prints."""
    text = "Lists the scenes of ./scenes and those that come with DeepGen, or those of a controller."
    return help_of("scenes [--server [NAME]] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints a line a scene."""
    given = read("scenes", arguments, OPTIONS)
    if given.words and not given.has("server"):
        raise UserError(f"deepgen scenes takes no '{given.words[0]}'; `deepgen check NAME` shows a scene")
    name = next(iter(given.only(0, 1, "at most one name")), "")
    found: dict[str, str] = {}
    if given.has("server"):
        from deepgen.v1.controller_pb2 import GetSceneRequest, ListScenesRequest

        with given.client() as client:
            if name:
                scene = client.call(client.catalog.GetScene, GetSceneRequest(name=f"scenes/{name}"))
                if given.as_json:
                    print_json(scene, lines=False)
                else:
                    print("\n".join(f"{setting.name}: {setting.value}" for setting in scene.settings))
                return 0
            found = {s.name: s.purpose for s in client.call(client.catalog.ListScenes, ListScenesRequest()).scenes}
    else:
        found = {stem: _purpose(path) for stem, path in shelf().items()}
    wide = max(map(len, found), default=0)
    for stem, purpose in sorted(found.items()):
        if given.as_json:
            print(json.dumps({"name": stem, "purpose": purpose}, ensure_ascii=False))
        else:
            print(f"{stem:<{wide}}  {purpose}".rstrip())
    return 0


def shelf() -> dict[str, Path]:
    """The files of the scenes that can be named here."""
    found: dict[str, Path] = {}
    for folder in (Path("scenes"), SCENES):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def _purpose(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
