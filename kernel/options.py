"""Declared options: the dataclass fields of the kernel's settings and of plugins, with type, default and help."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import math
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from .errors import PluginError, did_you_mean

Raw = str | None | Sequence[Any] | Mapping[str, Any]
"""A value as it was written: the text of a scalar, or a list or mapping of such."""

_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


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


class InputPath:
    """Marks a path that is read: relative to its scene file, or on the command line to the working folder."""


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

    @property
    def kind(self) -> str:
        """Its type in words."""
        return _words(self.type, self.is_path)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are accepted, where only some are."""
        return tuple(str(choice) for part in _parts(self.type) for choice in _literals(part))

    def parse(self, raw: Raw) -> Any:
        """The typed value of what was written.

        Raises:
            ValueError: says what would be right, without the option's name.
        """
        value = _parse(self.type, raw, self.is_path)
        if self.range is not None and isinstance(value, int | float) and not isinstance(value, bool):
            if value < self.range.least:
                raise ValueError(f"is below the least value, {self.range.least:g}")
            if value > self.range.most:
                raise ValueError(f"is above the greatest value, {self.range.most:g}")
        return value


@cache
def options_of(owner: type, declared_by: str) -> tuple[Option, ...]:
    """The options that a dataclass declares, inherited ones first."""
    if not dataclasses.is_dataclass(owner):
        return ()
    hints = typing.get_type_hints(owner, include_extras=True)
    helps: dict[str, str] = {}
    for part in reversed(owner.__mro__):
        helps.update(_field_docs(part))
    found = []
    for field in dataclasses.fields(owner):
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            raise PluginError(f"{declared_by}: option '{field.name}' has no default; give it one (None if need be)")
        hint, marks = hints[field.name], ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *rest = typing.get_args(hint)
            marks = tuple(rest)
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
            )
        )
    return tuple(found)


def build(owner: type, values: Mapping[str, Any], declared_by: str) -> Any:
    """An instance of a dataclass of options with the given values; options not given keep their defaults."""
    known = [option.name for option in options_of(owner, declared_by)]
    for name in values:
        if name not in known:
            raise PluginError(f"{declared_by} has no option '{name}'{did_you_mean(name, known)}")
    return owner(**values)


def _field_docs(owner: type) -> dict[str, str]:
    """The docstrings that stand under the fields of a class."""
    if not dataclasses.is_dataclass(owner):
        return {}
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = typing.cast(ast.ClassDef, tree.body[0]).body
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


def _parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _literals(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _words(kind: Any, is_path: bool = False) -> str:
    words = []
    for part in _parts(kind):
        if part is type(None):
            continue
        if _literals(part):
            words.append("one of " + ", ".join(str(choice) for choice in _literals(part)))
        elif typing.get_origin(part) in (tuple, list):
            words.append("list of " + _words(typing.get_args(part)[0]))
        elif typing.get_origin(part) is dict or part is dict:
            words.append("mapping")
        elif part is str:
            words.append("path" if is_path else "text")
        else:
            words.append({bool: "true or false", int: "whole number", float: "number"}.get(part, str(part)))
    return " or ".join(words)


def _parse(kind: Any, raw: Raw, is_path: bool) -> Any:
    parts = _parts(kind)
    if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("null", "none", "~", "")):
        if type(None) in parts:
            return None
        if raw is None:
            raise ValueError(f"has no value; it takes a {_words(kind, is_path)}")
    for part in parts:
        if part is type(None):
            continue
        try:
            return _parse_one(part, raw)
        except _Reason:
            raise
        except ValueError:
            continue
    wanted = _words(kind, is_path)
    near = did_you_mean(raw, [str(c) for p in parts for c in _literals(p)]) if isinstance(raw, str) else ""
    raise ValueError(f"is not {'' if wanted.startswith(('one of', 'true')) else 'a '}{wanted}{near}")


def _parse_one(kind: Any, raw: Raw) -> Any:
    if typing.get_origin(kind) in (tuple, list):
        items = raw.split(",") if isinstance(raw, str) else raw
        if isinstance(items, Mapping) or items is None:
            raise ValueError
        if any(isinstance(item, Mapping) for item in items):
            raise _Reason("has a mapping in its list; leave out the space after the colon, as in 'basic:text'")
        element = typing.get_args(kind)[0]
        cleaned = (item.strip() if isinstance(item, str) else item for item in items)
        return tuple(_parse_one(element, item) for item in cleaned) if items != [""] else ()
    if typing.get_origin(kind) is dict or kind is dict:
        pairs = _mapping_from_text(raw) if isinstance(raw, str) and ":" in raw else raw
        if not isinstance(pairs, Mapping):
            raise ValueError
        if typing.get_args(kind)[1:] == (str,):
            if not all(isinstance(value, str) for value in pairs.values()):
                raise _Reason("has something else than text as a value; each key of the mapping has one value")
            return dict(pairs)
        return {key: _typed(value) for key, value in pairs.items()}
    if not isinstance(raw, str):
        raise ValueError
    if _literals(kind):
        for choice in _literals(kind):
            if raw.strip() == str(choice):
                return choice
        raise ValueError
    text = raw.strip()
    if kind is bool:
        if text.lower() not in _TRUTH:
            raise ValueError
        return _TRUTH[text.lower()]
    if kind is int:
        return int(text)
    if kind is float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
        return number
    if kind is str:
        return raw
    raise ValueError


def _typed(raw: Raw) -> Any:
    """A value inside a mapping whose keys declare no types: number, true, false or null where it reads as one."""
    if isinstance(raw, Mapping):
        return {key: _typed(value) for key, value in raw.items()}
    if not isinstance(raw, str):
        return raw if raw is None else [_typed(item) for item in raw]
    words = {"true": True, "false": False, "null": None, "~": None}
    if raw.strip().lower() in words:
        return words[raw.strip().lower()]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(raw)
    return raw


class _Reason(ValueError):
    """What is wrong with a value of the right kind."""


def _mapping_from_text(raw: str) -> dict[str, str]:
    """`a:1,b:2` as a mapping; the last colon of an item divides it."""
    pairs: dict[str, str] = {}
    for item in raw.split(","):
        key, colon, value = (part.strip() for part in item.rpartition(":"))
        if not colon or not key:
            raise _Reason(f"has '{item}', which is no pair; write name:value pairs divided by commas")
        if key in pairs:
            raise _Reason(f"has '{key}' twice; keep one of them")
        pairs[key] = value
    return pairs
