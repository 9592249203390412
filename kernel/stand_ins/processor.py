"""A processor in another process."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from deepgen.v1 import plugin_service_pb2, processor_service_pb2

from .. import encoder_file, payload
from ..connections import Connection
from ..contracts import BadRow, BadRows, Field, Processor
from ..remote import Link, Lost
from ..schemas import field_of
from .columns import column_of, rows_of
from .instance import ATTEMPTS, Instance
from .stand_in import Ended, StandIn

if TYPE_CHECKING:
    from ..pretrained import Pretrained

CRASHES = 40
"""So many within one batch are no matter of some rows: the plugin is broken."""


class RemoteProcessor(StandIn, Processor):
    def _configuration(self, link: Link) -> plugin_service_pb2.ConfigureRequest:
        request = super()._configuration(link)
        request.inputs.extend(self.inputs)
        request.output = self.output
        if self.pretrained is not None and self.pretrained.source and link.takes_tokenizer:
            for name, content in tokenizer_files(self.pretrained).items():
                request.tokenizer[name] = content
        return request

    def bind(self, inputs: Sequence[str], output: str, pretrained: Pretrained | None = None) -> None:
        super().bind(inputs, output, pretrained)
        self._instance = None

    def fields(self) -> tuple[Field, ...]:
        return tuple(field_of(field) for field in self._configured().fields)

    def class_names(self) -> tuple[str, ...]:
        return tuple(self._configured().class_names)

    def reference_column(self) -> str | None:
        return self._configured().reference_column or None

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        """What the plugin makes of some rows; rows that end it are bad ones."""
        try:
            return self._process(columns, ATTEMPTS)
        except Ended:
            if not self._connection.can_start:
                raise
            return self._without_what_ends_it(columns)

    def _process(self, columns: Sequence[pa.Array], attempts: int) -> Mapping[str, pa.Array]:
        data = payload.written(payload.batch_of(dict(zip(_places(columns), columns, strict=True))))

        def make(link: Link) -> processor_service_pb2.ProcessRequest:
            request = processor_service_pb2.ProcessRequest(instance=self._there.name, room=self._there.room(link))
            self._there.place(link, data, request.columns)
            return request

        answer, link = self._asked("processor", "Process", make, attempts)
        if answer.HasField("bad_rows"):
            raise BadRows([BadRow(row.row, row.column, row.value, row.reason) for row in answer.bad_rows.rows])
        for name, count in answer.cut.items():
            self.cut[name] = self.cut.get(name, 0) + count
        return payload.columns_of(self._payload(answer, link, answer.fields))

    def _without_what_ends_it(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        """Halves a batch that has ended the plugin three times until the rows that do are found, and refuses them.

        They are tried in a program of their own: the other may have ended because of what others asked.
        """
        own = Connection(self._connection.endpoint.text, own=True)
        kept, self._instance = self._instance, Instance(own, self._configuration(own.link))
        try:
            self._refuse_what_ends_it(columns)
            return self._process(columns, ATTEMPTS)  # it was not the rows
        finally:
            self._instance = kept
            own.end()

    def _refuse_what_ends_it(self, columns: Sequence[pa.Array]) -> None:
        """Raises BadRows, if there are any; what is made of the others is not kept, and so not counted as cut."""
        bad: list[BadRow] = []
        cut = dict(self.cut)
        waiting, crashes = [(0, len(columns[0]))], 0
        while waiting:
            begin, end = waiting.pop()
            part = [column.slice(begin, end - begin) for column in columns]
            try:
                self._process(part, 1)
            except BadRows as error:
                bad += [BadRow(begin + row.row, row.column, row.value, row.reason) for row in error.rows]
            except Lost as error:
                crashes += 1
                if crashes == CRASHES:
                    raise self._ended(error, "by rows of one batch", CRASHES) from None
                if end - begin == 1:
                    value = str(part[0][0].as_py())
                    bad.append(BadRow(begin, self.inputs[0], value, f"has ended {self.name} again and again ({error})"))
                else:
                    middle = (begin + end) // 2
                    waiting += [(begin, middle), (middle, end)]
        self.cut = cut
        if bad:
            raise BadRows(bad)


class DrawingProcessor(RemoteProcessor):
    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        data = payload.written(payload.batch_of({name: column_of(values) for name, values in rows.items()}))

        def make(link: Link) -> processor_service_pb2.DrawRequest:
            place = self._there.place(link, data)
            return processor_service_pb2.DrawRequest(
                instance=self._there.name, fields=place, keys=keys.tolist(), room=self._there.room(link)
            )

        answer, link = self._asked("processor", "Draw", make)
        drawn = payload.columns_of(self._payload(answer, link, answer.fields))
        shapes = {field.name: field.shape for field in self.fields()}
        return {name: rows_of(array, shapes.get(name) == "ragged") for name, array in drawn.items()}


def _places(columns: Sequence[pa.Array]) -> list[str]:
    """A column may be given twice, and a record batch has each name once."""
    return [str(place) for place in range(len(columns))]


_TOKENIZERS: weakref.WeakKeyDictionary[Any, dict[str, bytes]] = weakref.WeakKeyDictionary()


def tokenizer_files(pretrained: Pretrained) -> dict[str, bytes]:
    """The tokenizer, the config of the model it is for, and what encoders need of both, as files."""
    if pretrained not in _TOKENIZERS:
        with tempfile.TemporaryDirectory() as folder:
            pretrained.save_tokenizer(folder)
            pretrained.config.save_pretrained(folder)
            files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
        said = encoder_file.EncoderFile.of(pretrained.tokenizer, pretrained.source, pretrained.positions)
        _TOKENIZERS[pretrained] = {**files, encoder_file.NAME: said.written()}
    return _TOKENIZERS[pretrained]
