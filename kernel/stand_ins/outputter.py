"""An outputter in another process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import IO, Any, cast

import pyarrow as pa

from deepgen.v1 import outputter_service_pb2, payload_pb2

from .. import payload
from ..contracts import Outputter, Predictions, Problem
from ..errors import PluginError
from ..remote import Link, Lost
from ..wire_features import LARGEST
from .stand_in import StandIn


class RemoteOutputter(StandIn, Outputter):
    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        answer = self._call(
            "outputter",
            "Columns",
            lambda link: outputter_service_pb2.ColumnsRequest(
                instance=self._there.name, problem=problem, result_columns=result_columns
            ),
        )
        return tuple(answer.columns)

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        answer, link = self._asked_with("outputter", "Format", outputter_service_pb2.FormatRequest, predictions)
        rows = self._payload(answer, link, answer.rows)
        if rows.schema.names != ["row"]:
            raise PluginError(f"outputter '{self.name}' gave the columns {rows.schema.names}; one, row, is right")
        return cast("list[str] | list[bytes]", rows.column(0).to_pylist())


class AssemblingOutputter(RemoteOutputter):
    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        rows = list(rows)  # for a plugin that is ended meanwhile
        start = file.tell()

        def requests(link: Link) -> Iterable[Any]:
            yield outputter_service_pb2.AssembleRequest(instance=self._there.name, count=count)
            for part in _portions(rows):
                data = payload.written(pa.RecordBatch.from_pydict({"row": pa.array(part, pa.binary())}))
                # no shared memory: nobody says when a message was read
                if len(data) <= LARGEST:
                    place = payload_pb2.Payload(arrow=data.to_pybytes())
                else:
                    place = payload_pb2.Payload(parts=link.put(data))
                yield outputter_service_pb2.AssembleRequest(rows=place)

        def ask(link: Link) -> None:
            file.seek(start)
            file.truncate()
            for answer in link.stream("outputter", "Assemble", requests(link)):
                self._refuse(answer)
                file.write(answer.data)

        self._configured()
        try:
            self._there.attempt(ask)
        except Lost as error:
            raise self._ended(error) from None


class ReadingOutputter(RemoteOutputter):
    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        answer = self._call(
            "outputter",
            "Read",
            lambda link: outputter_service_pb2.ReadRequest(instance=self._there.name, row=row, columns=columns),
        )
        return [json.loads(line) for line in answer.lines]


def _portions(rows: Sequence[bytes], most: int = 16 << 20) -> Iterable[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for row in rows:
        if part and size + len(row) > most:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row)
    if part:
        yield part
