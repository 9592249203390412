"""Declared options: the dataclass fields of the kernel's settings and of plugins, with type, default and help."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from . import parsing
from .errors import DeepgenError, PluginError, did_you_mean
from .parsing import Raw


@dataclass(frozen=True)
class Alias:
    """Other names under which an option is accepted, as in `Annotated[int, Alias("tok_max_length")]`."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


@dataclass(frozen=True)
class Range:
    """The numbers that are accepted, both ends included."""

    least: float
    most: float = float("inf")

    def __str__(self) -> str:
        """In words, to follow those of a type."""
        least, most = f"{self.least:.15g}", f"{self.most:.15g}"
        if most == "inf":
            return f"from {least} on"
        return f"from {least} to {most}" if least != "-inf" else f"up to {most}"


class InputPath:
    """Marks a path that is read: relative to its scene file, or on the command line to the working folder."""


class AddsUp:
    """Marks a list to which every flag of the command line adds, where that gives it more than once."""


class InputModel(InputPath):
    """Marks a model: such a path where there is one, else a name (a hub id), which is left as it is."""


@dataclass(frozen=True)
class Option:
    """One declared option."""

    name: str
    type: Any
    default: Any
    help: str
    declared_by: str
    aliases: tuple[str, ...] = ()
    range: Range | None = None
    is_path: bool = False
    is_model: bool = False
    adds_up: bool = False

    @property
    def kind(self) -> str:
        """Its type in words."""
        words = "model" if self.is_model else parsing.words(self.type, self.is_path)
        return f"{words} {self.range}" if self.range is not None else words

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are accepted, where only some are."""
        return tuple(str(choice) for part in parsing.parts(self.type) for choice in parsing.literals(part))

    def parse(self, raw: Raw) -> Any:
        """The typed value of what was written.

        Raises:
            ValueError: says what would be right, without the option's name.
        """
        value = parsing.parse(self.type, raw, self.is_path)
        if self.range is not None and isinstance(value, int | float) and not isinstance(value, bool):
            if value < self.range.least:
                raise ValueError(f"is below the least value, {self.range.least:.15g}")
            if value > self.range.most:
                raise ValueError(f"is above the greatest value, {self.range.most:.15g}")
        return value


@cache
def options_of(owner: type, declared_by: str) -> tuple[Option, ...]:
    """The options that a dataclass declares, inherited ones first.

    Raises:
        PluginError: an option without a default, or of a type or with a default that nobody could write in a scene.
    """
    if not dataclasses.is_dataclass(owner):
        return ()
    hints = _hints(owner, declared_by)
    helps: dict[str, str] = {}
    for part in reversed(owner.__mro__):
        helps.update(vars(part).get("option_help") or _field_docs(part))
    found = []
    for field in dataclasses.fields(owner):
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            try:
                default = field.default_factory()
            except (Exception, SystemExit) as error:
                words = f"option '{field.name}' has a default that cannot be made: {type(error).__name__}: {error}"
                raise PluginError(f"{declared_by}: {words}") from error
        else:
            raise PluginError(f"{declared_by}: option '{field.name}' has no default; give it one (None if need be)")
        hint = hints[field.name]
        marks: tuple[Any, ...] = ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *rest = typing.get_args(hint)
            marks = tuple(rest)
        option = f"{declared_by}: option '{field.name}' of the class {owner.__qualname__}"
        if not parsing.is_type(hint):
            name = hint.__qualname__ if isinstance(hint, type) else str(hint)
            raise PluginError(f"{option} has the type {name}; it can be {parsing.TYPES}")
        if not parsing.is_value(default):
            name = type(default).__qualname__
            raise PluginError(f"{option} has a default of the type {name}, which cannot be written in a scene")
        found.append(
            Option(
                name=field.name,
                type=hint,
                default=default,
                help=helps.get(field.name, ""),
                declared_by=declared_by,
                aliases=tuple(name for mark in marks if isinstance(mark, Alias) for name in mark.names),
                range=next((mark for mark in marks if isinstance(mark, Range)), None),
                is_path=InputPath in marks or InputModel in marks,
                is_model=InputModel in marks,
                adds_up=AddsUp in marks,
            )
        )
    return tuple(found)


def build(owner: type, values: Mapping[str, Any], declared_by: str) -> Any:
    """An instance of a dataclass of options with the given values; options not given keep their defaults.

    Raises:
        PluginError: an option that it does not declare, or an error of its own while it was made.
    """
    known = [option.name for option in options_of(owner, declared_by)]
    for name in values:
        if name not in known:
            raise PluginError(f"{declared_by} has no option '{name}'{did_you_mean(name, known)}")
    try:
        return owner(**values)
    except DeepgenError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{declared_by} cannot be made: {type(error).__name__}: {error}") from error


def _hints(owner: type, declared_by: str) -> dict[str, Any]:
    """The types of the fields; other annotations may name what only the type checker imports."""
    names = {field.name for field in dataclasses.fields(owner)}
    hints: dict[str, Any] = {}
    for part in reversed(owner.__mro__):
        for name, hint in inspect.get_annotations(part).items():
            if name in names:
                try:
                    hints[name] = eval(hint, vars(sys.modules[part.__module__])) if isinstance(hint, str) else hint
                except Exception as error:
                    raise PluginError(f"{declared_by}: the type of option '{name}' is not known: {error}") from None
    return hints


def _field_docs(owner: type) -> dict[str, str]:
    """The docstrings that stand under the fields of a class."""
    if not dataclasses.is_dataclass(owner):
        return {}
    node = _classes(getattr(sys.modules.get(owner.__module__), "__file__", None)).get(owner.__name__)
    body = node.body if node is not None else []
    docs = {}
    for statement, following in itertools.pairwise(body):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            docs[statement.target.id] = inspect.cleandoc(following.value.value)
    return docs


@cache
def _classes(file: str | None) -> dict[str, ast.ClassDef]:
    """The classes in a source file by name; none where there is no source."""
    try:
        tree = ast.parse(Path(file or "").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
