"""What a scene names of the machine: files, models, plugin files; and whether the server allows them."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kernel.endpoints import allows
from ..kernel.errors import SceneError
from .refusals import Refusal

if TYPE_CHECKING:
    from ..kernel.options import Option
    from ..kernel.scene import Scene, Value
    from ..kernel.sources import Given
    from .admission import Roots

OWN = ("output_dir", "overwrite_output_dir", "cache_dir", "logging_dir", "mlflow_tracking_uri", "num_ranks")
"""Settings that the server gives every job itself."""
MOST_FILES = 10_000
"""Files of a folder or a glob that are looked at for links that lead outside."""
_DATA_SET = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)?(:[\w.\[\]%:+-]*)?")
_ALREADY = re.compile(r"(package|hub|grpcs?):|(scratch|exec|unix):/|/|~")


def check_own(given: Iterable[Given]) -> None:
    """Refuses settings that are not the job's to give."""
    for item in given:
        if item.name not in OWN or item.raw is None or item.kind in ("default", "model folder"):
            continue
        way_out = "say it by the ranks of the job" if item.name == "num_ranks" else "leave it out"
        raise _refusal(f"{item.place} is set by the server for every job; {way_out}", "SERVER_SETTING")


def check_relative(given: Iterable[Given]) -> None:
    """Refuses relative paths in a scene that is in no folder."""
    declared = {name: option for option in _kernel_options() for name in (option.name, *option.aliases)}
    for item in given:
        option = declared.get(item.name)
        if option is None or not option.is_path or item.raw is None:
            continue
        try:
            values = option.parse(item.raw)
        except ValueError:
            continue  # the check says it better
        for value in values if isinstance(values, tuple) else (values,):
            if not isinstance(value, str) or _ALREADY.match(value):
                continue
            if not option.is_model or "/./" in f"/{value}" or "/../" in f"/{value}/" or value.startswith("scratch:"):
                raise SceneError(
                    f"{item.place} = {item.shown} is a relative path, and a scene that is sent as text is in no "
                    "folder; give the absolute path on the server"
                )


def plugin_files(given: Iterable[Given], roots: Roots) -> tuple[Path, ...]:
    """The plugin files that are named, each inside the folders for them; to be known before any of them is imported."""
    option = next(option for option in _kernel_options() if option.name == "plugin")
    files: list[Path] = []
    for item in given:
        if item.name not in (option.name, *option.aliases):
            continue
        try:
            values = option.parse(item.raw)
        except ValueError as error:
            raise SceneError(f"{item.place} = {item.shown} {error}") from None
        for value in values:
            path = _plugin(item.resolve(value), roots)
            if path is None:
                where = (
                    "what this server allows for plugins (serve --plugins)"
                    if roots.plugins or roots.endpoints
                    else "what this server allows: it was started without --plugins"
                )
                raise _refusal(f"{item.place} = {item.shown} is outside {where}", "OUTSIDE")
            files.append(path)
    return tuple(files)


def _plugin(value: str, roots: Roots) -> Path | None:
    """The file of a plugin, where it is inside the folders for them: Python, a program, or a socket; or a server.

    So are the files that a program is given: it may run what is in them.
    """
    scheme, _, rest = value.partition(":")
    if scheme in ("grpc", "grpcs"):
        return Path(value) if any(allows(endpoint, value) for endpoint in roots.endpoints) else None
    named = [rest if scheme == "unix" else value]
    if scheme == "exec":
        try:
            program, *words = shlex.split(rest)
        except ValueError:
            return None
        named = [program, *(word for word in words if "/" in word)]
    folders = tuple(folder.resolve() for folder in roots.plugins)
    found = [real(Path(text), folders) if Path(text).is_absolute() else None for text in named]
    return found[0] if None not in found else None


def check_inside(scene: Scene, roots: Sequence[Path]) -> None:
    """Refuses every path of a scene that leaves the folders, before anything is read from there."""
    for value in scene.values.values():
        if value.option.name == "plugin" or value.value is None:
            continue
        if value.option.name == "result_file" and "/" in str(value.value):
            where = value.origin.place("result_file")
            raise _refusal(f"{where} = '{value.value}' is a path; give a plain name: it is written to the run folder")
        if value.option.is_path:
            for named in value.value if isinstance(value.value, tuple) else (value.value,):
                _check(named, value, roots)


def real(path: Path, roots: Sequence[Path]) -> Path | None:
    """The path with symlinks resolved, where it is inside one of the folders; else None. Folders are resolved ones."""
    try:
        found = path.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a loop
        return None
    return found if any(found.is_relative_to(root) for root in roots) else None


def _check(named: Any, value: Value, roots: Sequence[Path]) -> None:
    where = value.origin.place(value.option.name)
    if isinstance(named, Mapping):
        _check_config(named, where, roots)
        return
    text = str(named)
    prefix, colon, rest = text.partition(":")
    if colon and prefix == "package":
        if ".." in rest.split("/") or "//" in rest:
            raise _refusal(f"{where} = '{text}' leaves its package; give package:NAME or package:NAME/FOLDER")
        return
    if colon and prefix == "hub":
        if not _DATA_SET.fullmatch(rest) or Path(rest.partition(":")[0]).exists():
            raise SceneError(f"{where} = '{text}' is no data set of the hub; write it hub:NAME or hub:OWNER/NAME")
        return
    if value.option.is_model and not (text.startswith("/") or colon):
        return  # of the hub, or `local`
    path = Path(rest if colon and prefix == "scratch" else text)
    for found in _named(path, where):
        if real(found, roots) is None:
            raise _refusal(f"{where} = '{text}' is outside the folders that this server allows, or leads there")
    if value.option.name == "deepspeed":
        from ..kernel.deepspeed_config import read_config

        _check_config(read_config(str(path)), where, roots)
    if colon and prefix == "scratch":
        _check_scratch(path, where, roots)


def _named(path: Path, where: str) -> Iterator[Path]:
    """What a path stands for: itself, and what is below it or matches it where links could lead elsewhere."""
    if glob.has_magic(str(path)) and not path.exists():
        fixed = [part for part in path.parents if not glob.has_magic(str(part))]
        yield fixed[0]
        matches: Iterator[str] = glob.iglob(str(path), recursive=True)
    else:
        yield path
        matches = _links(path)
    for count, match in enumerate(matches):
        if count == MOST_FILES:
            raise SceneError(f"{where} = '{path}' names more than {MOST_FILES} files; give a folder with fewer")
        yield Path(match)


def _links(path: Path) -> Iterator[str]:
    """The symlinks below a folder, as those of the hub's cache."""
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            entry = os.path.join(folder, name)
            if os.path.islink(entry):
                yield entry


def _check_config(config: Any, where: str, roots: Sequence[Path]) -> None:
    """A DeepSpeed configuration names folders of its own: for offloading, profiles and monitors."""
    for key, value in config.items() if isinstance(config, Mapping) else enumerate(config):
        if isinstance(value, Mapping | list | tuple):
            _check_config(value, where, roots)
            continue
        names_path = isinstance(value, str) and ("/" in value or key in ("output_path", "output_file", "nvme_path"))
        if names_path and (not Path(value).is_absolute() or real(Path(value), roots) is None):
            raise _refusal(f"{where}: {key} = '{value}' is outside the folders that this server allows")


def _check_scratch(file: Path, where: str, roots: Sequence[Path]) -> None:
    """A model from scratch may name the folder of a tokenizer."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # the check says it better
    tokenizer = content.get("tokenizer") if isinstance(content, dict) else None
    if not isinstance(tokenizer, str):
        return
    if tokenizer.startswith("package:"):
        leaves = ".." in tokenizer.split("/") or "//" in tokenizer
    else:
        folder = file.parent / tokenizer
        leaves = folder.exists() and real(folder, roots) is None
    if leaves:
        raise _refusal(
            f"{where}: tokenizer = '{tokenizer}' of {file.name} is outside the folders that this server allows"
        )


def _kernel_options() -> tuple[Option, ...]:
    from ..kernel.options import options_of
    from ..kernel.settings import KERNEL

    return tuple(option for owner in KERNEL for option in options_of(owner, "kernel"))


def _refusal(text: str, reason: str = "OUTSIDE") -> Refusal:
    return Refusal("INVALID_ARGUMENT" if reason == "SERVER_SETTING" else "PERMISSION_DENIED", text, reason=reason)
