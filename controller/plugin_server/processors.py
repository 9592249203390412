"""The processor service: columns of text in, fields out."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, cast

import grpc
import numpy as np
import pyarrow as pa

from deepgen.v1 import payload_pb2, processor_service_pb2
from deepgen.v1.processor_service_pb2_grpc import ProcessorServiceServicer

from ...kernel import payload
from ...kernel.contracts import BadRows, Processor
from ...kernel.errors import PluginError
from ...kernel.stand_ins.columns import column_of, rows_of
from ...kernel.wire_features import LARGEST
from .instances import Instances
from .payloads import Payloads
from .refusals import Refused, failure, invalid


class Processors(ProcessorServiceServicer):
    """Answers for all instances of processors."""

    def __init__(self, instances: Instances, payloads: Payloads) -> None:
        self._instances, self._payloads = instances, payloads

    def Process(
        self, request: processor_service_pb2.ProcessRequest, context: grpc.ServicerContext
    ) -> processor_service_pb2.ProcessResponse:
        """Fields of some rows."""
        instance = self._instances.find(request.instance, Processor)
        columns = _texts(self._payloads.read(request.columns), cast(Processor, instance.plugin))
        answer = processor_service_pb2.ProcessResponse()
        with instance.turn(context) as plugin:
            processor = cast(Processor, plugin)
            try:
                made = processor.process(columns)
                self._payloads.write(checked(processor, made, len(columns[0])), request.room, answer.fields)
            except BadRows as error:
                answer = _bad(error)
            except Refused:
                raise
            except (Exception, SystemExit) as error:
                answer = processor_service_pb2.ProcessResponse(failure=failure(error))
            for name, count in processor.cut.items():
                answer.cut[name] = count
            processor.cut.clear()
        return answer

    def Draw(
        self, request: processor_service_pb2.DrawRequest, context: grpc.ServicerContext
    ) -> processor_service_pb2.DrawResponse:
        """Fields that are drawn at random, from the keys alone."""
        instance = self._instances.find(request.instance, Processor)
        batch = self._payloads.read(request.fields)
        if len(request.keys) != batch.num_rows:
            raise invalid(f"{len(request.keys)} keys were given for {batch.num_rows} rows")
        given = payload.columns_of(batch)
        with instance.turn(context) as plugin:
            processor = cast(Processor, plugin)
            try:
                ragged = {field.name: field.shape == "ragged" for field in processor.fields()}
                rows = {name: rows_of(array, ragged.get(name, False)) for name, array in given.items()}
                drawn = processor.draw(rows, np.array(request.keys, np.uint64))
                made = payload.batch_of({name: column_of(values) for name, values in drawn.items()})
                answer = processor_service_pb2.DrawResponse()
                self._payloads.write(made, request.room, answer.fields)
                return answer
            except Refused:
                raise
            except (Exception, SystemExit) as error:
                return processor_service_pb2.DrawResponse(failure=failure(error))


def _texts(batch: pa.RecordBatch, processor: Processor) -> list[pa.Array]:
    """The input columns.

    Raises:
        Refused: they are not those that the processor was told of.
    """
    if batch.num_columns != len(processor.inputs):
        raise invalid(f"{batch.num_columns} columns were given; the instance has {len(processor.inputs)}")
    if not batch.num_rows:
        raise invalid("no rows were given; a processor is given one at least")
    columns = []
    for name, column in zip(processor.inputs, batch.columns, strict=True):
        if not pa.types.is_string(column.type):
            if not pa.types.is_large_string(column.type) and not pa.types.is_string_view(column.type):
                raise invalid(f"column '{name}' is {column.type}; a string is right")
            column = column.cast(pa.string())
        if column.null_count:
            raise invalid(f"column '{name}' has {column.null_count} rows without a value")
        columns.append(column)
    return columns


def checked(processor: Processor, made: Mapping[str, Any], rows: int) -> pa.RecordBatch:
    """What a processor made of some rows.

    Raises:
        PluginError: it is not a value a row.
    """
    for name, array in made.items():
        if len(array) != rows:
            raise PluginError(f"processor '{processor.name}' gave {len(array)} values of '{name}' for {rows} rows")
    return payload.batch_of(made)


def _bad(error: BadRows) -> processor_service_pb2.ProcessResponse:
    """As many as a message holds; the others are found when the rows are sent again without these."""
    rows: list[payload_pb2.BadRow] = []
    size = 0
    try:
        for one in sorted(error.rows, key=operator.attrgetter("row")):
            row = payload_pb2.BadRow(row=one.row, column=one.column, value=one.value, reason=one.reason)
            size += row.ByteSize() + 8
            if rows and size > LARGEST:
                break
            rows.append(row)
    except (TypeError, ValueError) as wrong:
        return processor_service_pb2.ProcessResponse(failure=failure(wrong))
    return processor_service_pb2.ProcessResponse(bad_rows=payload_pb2.BadRows(rows=rows))
