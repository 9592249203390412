"""Where settings are written: YAML scenes, the original's argument files, and the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from .endpoints import absolute, is_endpoint
from .errors import SceneError, did_you_mean
from .parsing import Raw

_MODEL_NAME = re.compile(r"(?!\.)[\w.-]+(/[\w.-]+)?")
DEFAULTS = "defaults"
"""The key of a resolved scene under which the values stand that nobody set."""
ELSEWHERE = "elsewhere"
"""The key of a resolved scene that holds, by endpoint, what the plugins there said of themselves."""
SCENES = Path(__file__).resolve().parent.parent / "scenes"


@dataclass(frozen=True)
class Given:
    """One setting as it was written."""

    name: str
    raw: Raw
    kind: Literal["default", "scene file", "command line", "model folder"]
    file: str = ""
    line: int = 0
    folder: Path = Path()
    """What a relative path is relative to."""
    bare: bool = False
    """A flag without a value, which means true."""
    elsewhere: Path | None = None
    """Where a relative path is looked for when nothing is at the first place."""

    @property
    def where(self) -> str:
        """`FILE:LINE`, or `command line`."""
        return f"{self.file}:{self.line}" if self.file else self.kind

    @property
    def place(self) -> str:
        """`FILE:LINE: NAME`, or `--NAME`; how every message on a setting begins."""
        return f"{self.where}: {self.name}" if self.file else f"--{self.name}"

    @property
    def shown(self) -> str:
        """The value as it was written, cut to a readable length."""
        text = f"'{self.raw}'" if isinstance(self.raw, str) else json.dumps(self.raw)
        return text if len(text) <= 80 else text[:76] + "…" + text[-1]

    def resolve(self, value: Any, *, is_model: bool = False) -> Any:
        """A path, or each of several, made absolute. Prefixed names (`package:…`) and hub ids are left as they are."""
        if isinstance(value, tuple):
            return tuple(self.resolve(item, is_model=is_model) for item in value)
        if not isinstance(value, str):
            return value
        prefix, colon, rest = value.partition(":")
        if colon and prefix == "scratch":
            return f"scratch:{self.resolve(rest)}"
        if colon and prefix in ("package", "hub"):
            return value
        if is_endpoint(value):
            return absolute(value, self.folder)
        path = self.folder / Path(value).expanduser()
        if self.elsewhere is not None and not path.exists() and (self.elsewhere / value).exists():
            path = self.elsewhere / value
        if is_model and not path.exists() and _MODEL_NAME.fullmatch(value):
            return value
        return str(path.resolve())


def read_scene_file(reference: str) -> tuple[Path, list[Given], list[str]]:
    """The settings of a scene, given by name (a file of scenes/) or by path; YAML, or the original's argument file.

    Also gives notes on what was left out of it.

    Raises:
        SceneError: no such scene, or a file that cannot be read as one.
    """
    path = find_scene(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SceneError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SceneError(f"{path}: cannot be read: {error.strerror}") from None
    shown = shown_path(path)
    if path.suffix in (".yaml", ".yml"):
        return path, _read_yaml(text, shown, path.parent), []
    given, stray = _read_arguments(text, shown, path.parent)
    return path, given, [f"{place}: '{word}' follows no setting and is left out" for place, word in stray]


def find_scene(reference: str) -> Path:
    """The file of a scene's name or path."""
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    for folder in (Path("scenes"), SCENES):
        if (named := folder / f"{reference}.yaml").is_file():
            return named
    if path.is_dir():
        raise SceneError(f"scene '{reference}' is a folder; give a scene file")
    known = [scene.stem for folder in (Path("scenes"), SCENES) for scene in folder.glob("*.yaml")]
    near = did_you_mean(reference, known)
    shelf = f"; there are {', '.join(sorted(set(known)))}" if known else "; give the path of a scene file"
    raise SceneError(f"no scene is called '{reference}', and no such file exists{near or shelf}")


def read_tokens(tokens: Sequence[str], file: str = "", lines: Sequence[int] = (), folder: Path = Path()) -> list[Given]:
    """`--name value`, `--name=value` and bare `--flag` tokens; a token file of the original is read by the same rule.

    Raises:
        SceneError: a token that belongs to no setting.
    """
    given: list[Given] = []
    kind: Literal["scene file", "command line"] = "scene file" if file else "command line"
    position = 0
    while position < len(tokens):
        token = tokens[position]
        line = lines[position] if lines else 0
        where = f"{file}:{line}" if file else kind
        if not token.startswith("--") or token == "--":
            raise SceneError(
                f"{where}: '{token}' belongs to no setting; settings are written --name value, after the scene"
            )
        name, equals, value = token[2:].partition("=")
        position += 1
        bare = False
        if not equals:
            if position < len(tokens) and not tokens[position].startswith("--"):
                value = tokens[position]
                position += 1
            elif name.startswith("no_"):
                name, value = name[3:], "false"
            else:
                value, bare = "true", True
        # the original's paths were relative to the working folder, which its files may still be written for
        elsewhere = Path.cwd() if file else None
        given.append(Given(name.replace("-", "_"), value, kind, file, line, folder, bare, elsewhere))
    return given


def _read_arguments(text: str, shown: str, folder: Path) -> tuple[list[Given], list[tuple[str, str]]]:
    """The original's argument file: tokens divided by white space, `\\` at line ends, `#` comments.

    Words that follow no flag did nothing in the original (published files end in a stray word); they are given apart,
    each with its place.
    """
    tokens: list[str] = []
    lines: list[int] = []
    stray: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        for token in line.partition(" #")[0].split() if not line.lstrip().startswith("#") else []:
            if token == "\\":
                continue
            if not token.startswith("--") and (not tokens or not tokens[-1].startswith("--") or "=" in tokens[-1]):
                stray.append((f"{shown}:{number}", token))
                continue
            tokens.append(token)
            lines.append(number)
    if not tokens:
        raise SceneError(f"{shown}: no settings in it; a scene is YAML (name.yaml) or a file of --name value tokens")
    return read_tokens(tokens, shown, lines, folder), stray


def _read_yaml(text: str, shown: str, folder: Path) -> list[Given]:
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{shown}:{mark.line + 1}" if mark else shown
        problem = getattr(error, "problem", None) or str(error)
        raise SceneError(f"{place}: not YAML: {problem}; look at the quotes, colons and indentation there") from None
    if not isinstance(document, yaml.MappingNode):
        raise SceneError(f"{shown}: no settings in it; a scene is made of 'name: value' lines")
    given: list[Given] = []
    seen: dict[str, int] = {}
    for key, node in document.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SceneError(f"{shown}:{line}: a setting's name is one word, as in 'task: seq2label'")
        if key.value in seen:
            raise SceneError(f"{shown}:{line}: {key.value} is set twice, first on line {seen[key.value]}")
        seen[key.value] = line
        raw = _raw(node, shown)
        if key.value == DEFAULTS and isinstance(raw, dict):
            given += [Given(name, value, "default", shown, line, folder) for name, value in raw.items()]
        elif key.value == ELSEWHERE and isinstance(raw, dict):
            given.append(Given(ELSEWHERE, raw, "default", shown, line, folder))
        else:
            given.append(Given(key.value, raw, "scene file", shown, line, folder))
    return given


def _raw(node: yaml.Node, shown: str) -> Any:
    """Scalars stay the text that was written, so that each is read by the declared type of its setting."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag.endswith(":null") else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_raw(item, shown) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise SceneError(f"{shown}:{key.start_mark.line + 1}: the key of a mapping is one word")
            if key.value in pairs:
                raise SceneError(f"{shown}:{key.start_mark.line + 1}: '{key.value}' stands twice in a mapping")
            pairs[key.value] = _raw(value, shown)
        return pairs
    raise SceneError(f"{shown}:{node.start_mark.line + 1}: cannot be read")


def shown_path(path: Path) -> str:
    """The path as a person would write it: relative to the working folder when it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
