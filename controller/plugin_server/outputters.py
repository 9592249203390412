"""The outputter service: how rows of the result file are written."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pyarrow as pa

from deepgen.v1 import outputter_service_pb2
from deepgen.v1.outputter_service_pb2_grpc import OutputterServiceServicer

from ...kernel.contracts import Outputter, Problem
from ...kernel.errors import PluginError
from ...kernel.wire_features import PIECE
from .instances import Instances
from .metrics import read_predictions
from .payloads import Payloads
from .refusals import Refused, failure, invalid


class Outputters(OutputterServiceServicer):
    """Answers for all instances of outputters."""

    def __init__(self, instances: Instances, payloads: Payloads) -> None:
        self._instances, self._payloads = instances, payloads

    def Columns(
        self, request: outputter_service_pb2.ColumnsRequest, context: grpc.ServicerContext
    ) -> outputter_service_pb2.ColumnsResponse:
        """The names of the columns of the file."""
        instance = self._instances.find(request.instance, Outputter)
        with instance.turn(context) as plugin:
            try:
                outputter = cast(Outputter, plugin)
                columns = outputter.columns(cast(Problem, request.problem), tuple(request.result_columns))
                return outputter_service_pb2.ColumnsResponse(columns=columns)
            except (Exception, SystemExit) as error:
                return outputter_service_pb2.ColumnsResponse(failure=failure(error))

    def Format(
        self, request: outputter_service_pb2.FormatRequest, context: grpc.ServicerContext
    ) -> outputter_service_pb2.FormatResponse:
        """What is written of some rows."""
        instance = self._instances.find(request.instance, Outputter)
        predictions = read_predictions(self._payloads, request.predictions)
        with instance.turn(context) as plugin:
            try:
                outputter = cast(Outputter, plugin)
                rows: list[Any] = outputter.format(predictions)
                if len(rows) != len(predictions.rows):
                    raise PluginError(
                        f"outputter '{outputter.name}' gave {len(rows)} rows for {len(predictions.rows)} rows"
                    )
                column = pa.array(rows, pa.binary() if rows and isinstance(rows[0], bytes) else pa.string())
                batch = pa.RecordBatch.from_pydict({"row": column})
                answer = outputter_service_pb2.FormatResponse()
                self._payloads.write(batch, request.room, answer.rows)
                return answer
            except Refused:
                raise
            except (Exception, SystemExit) as error:
                return outputter_service_pb2.FormatResponse(failure=failure(error))

    def Assemble(
        self, requests: Iterator[outputter_service_pb2.AssembleRequest], context: grpc.ServicerContext
    ) -> Iterator[outputter_service_pb2.AssembleResponse]:
        """The bytes of the file; they are written aside first, so that a file is whole or fails."""
        first = next(requests, None)
        if first is None:
            raise invalid("the first message is missing, with the instance and the count of rows")
        instance = self._instances.find(first.instance, Outputter)
        failed = None
        with tempfile.TemporaryFile(prefix="deepgen-plugin-") as file:
            with instance.turn(context) as plugin:
                try:
                    cast(Outputter, plugin).assemble(self._rows(first, requests), first.count, file)
                except (Refused, grpc.RpcError):
                    raise
                except (Exception, SystemExit) as error:
                    failed = failure(error)
            if failed is not None:
                yield outputter_service_pb2.AssembleResponse(failure=failed)
                return
            file.seek(0)
            while piece := file.read(PIECE):
                yield outputter_service_pb2.AssembleResponse(data=piece)

    def Read(
        self, request: outputter_service_pb2.ReadRequest, context: grpc.ServicerContext
    ) -> outputter_service_pb2.ReadResponse:
        """Values by column of what was written of a row."""
        instance = self._instances.find(request.instance, Outputter)
        with instance.turn(context) as plugin:
            try:
                lines = cast(Outputter, plugin).read(request.row, tuple(request.columns))
                texts = [json.dumps(line, ensure_ascii=False, default=_plain) for line in lines]
                return outputter_service_pb2.ReadResponse(lines=texts)
            except (Exception, SystemExit) as error:
                return outputter_service_pb2.ReadResponse(failure=failure(error))

    def _rows(
        self,
        first: outputter_service_pb2.AssembleRequest,
        requests: Iterator[outputter_service_pb2.AssembleRequest],
    ) -> Iterator[bytes]:
        """The rows of all messages; as many as were announced."""
        count = 0
        for request in _with(first, requests):
            if request.HasField("rows"):
                batch = self._payloads.read(request.rows)
                if batch.schema.names != ["row"]:
                    raise invalid(f"columns {', '.join(batch.schema.names)} were given; one, 'row', is right")
                count += batch.num_rows
                yield from batch.column(0).cast(pa.binary()).to_pylist()
        if count != first.count:
            raise invalid(f"{count} rows were given, and {first.count} were announced")


def _with(first: Any, others: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _plain(value: Any) -> Any:
    """An array or a number of NumPy's as JSON has it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no value of JSON")
