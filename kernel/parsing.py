"""Reads a value of a declared type from what was written in a scene or on the command line, and writes it so."""

from __future__ import annotations

import contextlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .errors import did_you_mean

Raw = str | None | Sequence[Any] | Mapping[str, Any]
"""A value as it was written: the text of a scalar, or a list or mapping of such."""

TYPES = "bool, int, float, str, Literal['a', 'b'], tuple[str, ...], dict[str, str], or several with |, as in int | None"
"""What values can be of, as it is written in Python."""
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def literals(kind: Any) -> tuple[Any, ...]:
    """The words that a `Literal` accepts."""
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def words(kind: Any, is_path: bool = False) -> str:
    """A type as a person says it."""
    kinds = []
    for part in parts(kind):
        if part is type(None):
            continue
        if literals(part):
            choices = ", ".join(str(choice) for choice in literals(part))
            kinds.append(f"one of {choices}" if len(literals(part)) > 1 else choices)
        elif typing.get_origin(part) in (tuple, list):
            kinds.append("list of " + words(typing.get_args(part)[0], is_path))
        elif typing.get_origin(part) is dict or part is dict:
            kinds.append("mapping")
        elif part is str:
            kinds.append("path" if is_path else "text")
        else:
            kinds.append({bool: "true or false", int: "whole number", float: "number"}.get(part, str(part)))
    return " or ".join(kinds)


def is_type(kind: Any) -> bool:
    """Whether values of a type can be read and written: of one of `TYPES`, or of a union of them."""
    return all(part is type(None) or _is_one_type(part) for part in parts(kind))


def _is_one_type(kind: Any) -> bool:
    if choices := literals(kind):
        return all(isinstance(choice, str | int) for choice in choices)
    if typing.get_origin(kind) in (tuple, list):
        return any(map(_is_one_type, typing.get_args(kind)[:1]))
    return typing.get_origin(kind) is dict or kind in (bool, int, float, str, dict)


def is_value(value: Any) -> bool:
    """Whether a value can be written and read again."""
    if type(value) in (tuple, list):
        return all(map(is_value, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(is_value, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def plain(value: Any) -> str:
    """A value as one writes it on the command line; mappings as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(plain(item) for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def parse(kind: Any, raw: Raw, is_path: bool = False) -> Any:
    """The typed value of what was written.

    Raises:
        ValueError: says what would be right.
    """
    members = parts(kind)
    if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("null", "none", "~", "")):
        if type(None) in members:
            return None
        if raw is None:
            raise ValueError(f"has no value; it takes a {words(kind, is_path)}")
    for part in members:
        if part is type(None):
            continue
        try:
            return _parse_one(part, raw)
        except _Reason:
            raise
        except ValueError:
            continue
    wanted = words(kind, is_path)
    near = did_you_mean(raw, [str(c) for p in members for c in literals(p)]) if isinstance(raw, str) else ""
    article = "" if any(part is bool or literals(part) for part in members) else "a "
    raise ValueError(f"is not {article}{wanted}{near}")


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
    if literals(kind):
        for choice in literals(kind):
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
        if "\0" in raw:
            raise _Reason("has a null character in it; take it out")
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
