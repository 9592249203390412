"""What is drawn at random when rows become a batch; it depends on seed, epoch and row, and on no rank or batch size.

`Processor.draw(rows, keys)` is called with the fields that `process` gave for some rows (ragged ones as a list of
[tokens] arrays) and a key for each row ([rows] uint64), from which `uniform` makes numbers. It gives fields of
`fields()` in the same form, instead of those of `process` or beside them. In training they are drawn anew in each
epoch; in evaluation they are always the same, whatever the seed; in prediction nothing is drawn. Features are kept as
`process` gave them. A processor is called by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .contracts import Field, Processor
from .errors import DeepgenError, PluginError, PluginFailed

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Rows(Protocol):
    """Anything that rows of features can be taken from."""

    fields: dict[str, Field]

    def take(self, rows: np.ndarray) -> dict[str, Any]: ...


class Drawn:
    """Features of one epoch, with what processors draw for their rows."""

    def __init__(self, features: Rows, processors: Sequence[Processor], numbers: Any, seed: int, epoch: int) -> None:
        """Features with drawn fields.

        Args:
            numbers: indexed by rows of the features, it gives their numbers in the input.
        """
        self._features, self._processors, self._numbers = features, processors, numbers
        self._keys = [_key(seed, epoch, place) for place in range(len(processors))]
        self.fields: dict[str, Field] = dict(features.fields)
        for processor in processors:
            self.fields.update({made.name: made for made in processor.fields()})

    def take(self, rows: np.ndarray) -> dict[str, Any]:
        """The fields of some rows, as `Table.take` gives them."""
        values = self._features.take(rows)
        numbers = np.asarray(self._numbers[rows]).astype(np.uint64)
        for processor, key in zip(self._processors, self._keys, strict=True):
            declared = [made.name for made in processor.fields()]
            mine = {name: values[name] for name in declared if name in values}
            try:
                drawn = processor.draw(mine, _mixed(key + (numbers + np.uint64(1)) * GOLDEN))
            except DeepgenError:
                raise
            except (Exception, SystemExit) as error:
                words = f"failed as it drew for {len(rows)} rows: {type(error).__name__}: {error}"
                raise PluginFailed(f"processor '{processor.name}' {words}") from error
            for name, given in drawn.items():
                if name not in declared or len(given) != len(rows):
                    raise PluginError(
                        f"processor '{processor.name}' drew {len(given)} values of '{name}' for {len(rows)} rows; it "
                        f"declares {', '.join(declared)}"
                    )
            values.update(drawn)
        return values


def drawn(features: Rows, processors: Sequence[Processor], numbers: Any, seed: int = 0, epoch: int = 0) -> Rows:
    """The features with what the processors draw; as they are where none draws."""
    return Drawn(features, processors, numbers, seed, epoch) if processors else features


def draws(processor: Processor) -> bool:
    """Whether a processor draws something."""
    return type(processor).draw is not Processor.draw


def uniform(keys: np.ndarray, counts: np.ndarray, stream: int = 0) -> np.ndarray:
    """Numbers from 0 to 1 (never 1) for rows of so many places each.

    The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), one
    for each row: the numbers of a row depend on its key alone.

    Args:
        keys: [rows] uint64, as `Processor.draw` is given them.
        counts: [rows] numbers of each row.
        stream: another one gives other numbers.

    Returns:
        [sum of counts] float64, row after row.
    """
    counts = np.asarray(counts, np.int64)
    starts = np.cumsum(counts) - counts
    places = (np.arange(int(counts.sum())) - np.repeat(starts, counts)).astype(np.uint64) + np.uint64(1)
    seeds = _mixed(keys + _key(stream))
    made: np.ndarray = (_mixed(np.repeat(seeds, counts) + places * GOLDEN) >> np.uint64(11)) * 2.0**-53
    return made


def _key(*numbers: int) -> np.ndarray:
    """One key of several numbers ([1] uint64: arrays overflow silently, as is meant here)."""
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = _mixed((key ^ np.uint64(number % 2**64)) + GOLDEN)
    return key


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
