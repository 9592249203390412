"""Values of options that came as JSON, checked as those of a scene file are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...kernel.contracts import Plugin
from ...kernel.errors import PluginError, SceneError, did_you_mean
from ...kernel.options import Option, options_of
from ...kernel.parsing import plain
from ...kernel.schemas import given


def option_values(plugin: type[Plugin], owner: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The values of options that came as JSON.

    Raises:
        SceneError: one is none of its type.
    """
    declared = {option.name: option for option in options_of(plugin, owner)}
    values = {}
    for name, text in options.items():
        if name not in declared:
            raise PluginError(f"{owner} has no option '{name}'{did_you_mean(name, declared)}")
        try:
            values[name] = _value(declared[name], text)
        except ValueError as error:
            raise SceneError(f"{name} = '{text}' {error}") from None
    return values


def _value(option: Option, text: str) -> Any:
    """One value, checked; numbers in the type that the option has."""
    try:
        value = given(option, text)
    except ValueError:
        raise ValueError("is no JSON") from None
    if value == option.default and type(value) is type(option.default):
        return value
    parsed = option.parse(as_written(json.loads(text)))
    # what was written as text is as it was sent: blanks around it were meant
    return parsed if parsed == value or isinstance(parsed, bool | int | float) else value


def as_written(value: Any) -> Any:
    """A value of JSON as a scene file holds it: scalars are text."""
    if isinstance(value, list):
        return [as_written(item) for item in value]
    if isinstance(value, dict):
        return {key: as_written(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str) else plain(value)
