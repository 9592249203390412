"""The mapping of label names to numbers that `label_mapping` gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .cells import FLOAT
from .errors import SceneError


@dataclass(frozen=True)
class Mapped:
    """A checked mapping."""

    names: tuple[str, ...]
    numbers: tuple[int, ...] | tuple[float, ...]
    """The number of each name."""
    dtype: Literal["int64", "float32"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in class order; none when they stand for plain numbers."""
        if self.dtype == "float32":
            return ()
        return tuple(name for _, name in sorted(zip(self.numbers, self.names, strict=True)))

    @property
    def reason(self) -> str:
        """What to say of a name that is not in the mapping."""
        shown = [*self.names[:20], *(["…"] if len(self.names) > 20 else [])]
        return f"is not in label_mapping, which knows {', '.join(shown)}"


def parse(mapping: Mapping[str, str]) -> Mapped:
    """Checks a mapping and decides its type once, from all values: one decimal point makes them all float32.

    Raises:
        SceneError: no labels, a value that is no number, or class numbers that are not 0, 1, 2 … each once.
    """
    values = {str(name): str(value).strip() for name, value in mapping.items()}
    if not values:
        raise SceneError("label_mapping is empty; write name:number for each label, as in 'bad:0,good:1'")
    numbers: list[float] = []
    decimal = any("." in value for value in values.values())
    for name, value in values.items():
        if not re.fullmatch(FLOAT if decimal else "[+-]?[0-9]+", value):
            raise SceneError(f"label_mapping: '{name}' has the value '{value}', which is not a number")
        numbers.append(float(value))
    names = tuple(values)
    if decimal:
        return Mapped(names, tuple(numbers), "float32")
    classes = [int(number) for number in numbers]
    for name, number in zip(names, classes, strict=True):
        if number < 0:
            raise SceneError(f"label_mapping: '{name}' has the class number {number}; classes count from 0")
        if classes.count(number) > 1:
            others = [f"'{other}'" for other, its in zip(names, classes, strict=True) if its == number]
            raise SceneError(f"label_mapping gives class number {number} to {' and '.join(others)}; each has its own")
    missing = sorted(set(range(len(classes))) - set(classes))
    if missing:
        raise SceneError(
            f"label_mapping has no label for class number {missing[0]}; {len(classes)} labels are numbered 0 to "
            f"{len(classes) - 1}"
        )
    return Mapped(names, tuple(classes), "int64")
