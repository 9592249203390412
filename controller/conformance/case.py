"""One plugin with what its checks share: its options, its instances, and rows that it can read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.plugin_service_pb2 import ConfigureResponse

from ...kernel.errors import UserError
from ...kernel.options import options_of
from ...kernel.schemas import options_class
from . import cells
from .checks import Skipped, Wrong, short
from .subject import Failed, Subject, Unread, take

LEAST = 6
"""Rows that a check needs."""
ENOUGH = cells.ROWS
OUTPUT = "labels"


@dataclass(frozen=True)
class Sample:
    """Rows that a processor can read."""

    rows: pa.RecordBatch
    families: tuple[str, ...]


@dataclass
class Case:
    """A plugin under test."""

    subject: Subject
    options: Mapping[str, str]
    """Those given for it, as JSON."""
    quick: bool = False

    @property
    def descriptor(self) -> PluginDescriptor:
        """What it says of itself."""
        return self.subject.descriptor

    @property
    def kind(self) -> str:
        """Its kind, as a word."""
        return PluginDescriptor.Kind.Name(self.descriptor.kind).lower()

    @property
    def title(self) -> str:
        """How a person calls it."""
        return f"{self.kind} {self.descriptor.name}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names for the columns of a processor, as many as it takes, at most three."""
        if self.kind != "processor":
            return ()
        most = max(self.descriptor.least_columns, min(self.descriptor.most_columns, 3))
        return tuple(f"column{number + 1}" for number in range(most))

    def named(self, what: str) -> str:
        """The name of an instance."""
        return f"{self.title}, {what}"

    def released(self, what: str = "main") -> None:
        """Forgets an instance."""
        self.subject.release(self.named(what))

    def configured(self, what: str = "main", options: Mapping[str, str] | None = None) -> ConfigureResponse:
        """An instance with the options of this check."""
        given = self.options if options is None else options
        return self.subject.configure(self.named(what), given, self.inputs, OUTPUT if self.kind == "processor" else "")

    @property
    def main(self) -> str:
        """An instance that is there, also where the plugin was started again meanwhile."""
        try:
            self.configured()
        except Failed as failed:
            raise Skipped(f"it cannot be configured ({short(failed, 160)}); give --options") from None
        return self.named("main")

    @cached_property
    def sample(self) -> Sample:
        """Rows that it reads, of the family of values of which it takes the most.

        Raises:
            Skipped: there are not enough; it names the others as bad rows.
            Wrong: there are not enough, and it fails at some.
        """
        instance, best = self.main, Sample(pa.RecordBatch.from_pydict({}), ())
        refused: list[Exception] = []
        values = cells.families(cells.labels_of(self.descriptor, dict(self.options)))
        for names in itertools.product(values, repeat=len(self.inputs)):
            columns = [pa.array(values[name], pa.string()) for name in names]
            rows, why = self._readable(instance, pa.RecordBatch.from_arrays(columns, names=list(self.inputs)))
            refused += why
            if len(rows) > len(best.rows):
                best = Sample(rows, names)
            if len(best.rows) == ENOUGH:
                break
        if len(best.rows) >= LEAST:
            return best
        if failed := next((one for one in refused if isinstance(one, Failed)), None):
            raise Wrong(f"rows of texts, such as {values['sentences'][3]!r}", failed, "features, or bad rows")
        words = short(refused[-1], 160) if refused else "none was tried"
        raise Skipped(f"no rows were found that it can read: {words}")

    @cached_property
    def wide(self) -> pa.RecordBatch | None:
        """Rows of a kilobyte and more, if it reads each text also when it is said many times over."""
        columns = [pa.array([" ".join([text] * 40) for text in column.to_pylist()]) for column in self.rows.columns]
        rows = pa.RecordBatch.from_arrays(columns, names=list(self.inputs))
        return rows if len(self._readable(self.main, rows)[0]) == len(rows) else None

    def _readable(self, instance: str, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[Exception]]:
        """The rows that it takes, and how it refused the others."""
        refused: list[Exception] = []
        for _ in range(4):
            if not rows.num_rows:
                break
            try:
                self.subject.process(instance, rows)
                return rows, refused
            except Unread as unread:
                refused.append(unread)
                bad = {row.row for row in unread.rows}
                if not bad:
                    break
                rows = take(rows, [row for row in range(rows.num_rows) if row not in bad])
            except Failed as failed:
                refused.append(failed)
                break
        return rows.slice(0, 0), refused

    @property
    def rows(self) -> pa.RecordBatch:
        """Those of the sample."""
        return self.sample.rows

    @property
    def problems(self) -> Sequence[str]:
        """Those that it fits."""
        return sorted(self.descriptor.fits)


def spelled(descriptor: PluginDescriptor, texts: Mapping[str, str]) -> dict[str, str]:
    """Those of some options, as a scene would have them, that the plugin declares: as JSON by name.

    Raises:
        UserError: a value is none of the option's type.
    """
    if not texts:
        return {}
    title = f"{PluginDescriptor.Kind.Name(descriptor.kind).lower()} {descriptor.name}"
    values: dict[str, str] = {}
    for option in options_of(options_class("Declared", (), descriptor.options), title):
        for name in {option.name, *option.aliases} & set(texts):
            try:
                values[option.name] = json.dumps(option.parse(texts[name]))
            except ValueError as error:
                raise UserError(f"--options {name}={texts[name]} {error} ({title})") from None
    return values
