"""The model service, and the same answers as those of a processor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa

from deepgen.v1 import model_service_pb2, payload_pb2, processor_service_pb2
from deepgen.v1.model_service_pb2_grpc import ModelServiceServicer
from deepgen.v1.processor_service_pb2_grpc import ProcessorServiceServicer

from ...kernel import payload
from ...kernel.contracts import Predictions
from ..plugin_server.payloads import Payloads
from ..plugin_server.refusals import Refused, failure
from ..refusals import Refusal, invalid
from .asking import Answered, Asking, Context
from .calls import Calls
from .instances import Instances

AHEAD = 16
"""Requests of a stream that are asked before the first of them is answered."""
CHECKED_INLINE = 1 << 20
"""Bytes of a payload that are read between two calls; more are read in a thread."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Refusals of the plugin server as those of this one."""
    try:
        yield
    except Refused as error:
        raise Refusal(error.code.name, str(error)) from None


class Models(ModelServiceServicer):
    """Answers rows."""

    def __init__(self, asking: Asking, instances: Instances, payloads: Payloads, calls: Calls) -> None:
        self._asking, self._instances = asking, instances
        self._payloads, self._calls = payloads, calls
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Streams take no more requests, and end when those there are were answered."""
        self._stopping.set()

    async def Predict(
        self, request: model_service_pb2.PredictRequest, context: Context
    ) -> model_service_pb2.PredictResponse:
        """Answers some rows."""
        self._calls.begin(context)
        return await self._calls.ended("Predict", self._answer(request, context))

    async def PredictStream(
        self, requests: AsyncIterator[model_service_pb2.PredictRequest], context: Context
    ) -> AsyncIterator[model_service_pb2.PredictResponse]:
        """Answers requests in their order; a few are asked ahead."""
        self._calls.begin(context)
        asked: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()
        tasks: set[asyncio.Task[Any]] = set()
        ahead = asyncio.Semaphore(AHEAD)

        async def read() -> None:
            try:
                async for request in requests:
                    await ahead.acquire()
                    answer = self._answer(request, context, patient=True)
                    task = asyncio.ensure_future(self._calls.ended("PredictStream", answer))
                    tasks.add(task)
                    asked.put_nowait(task)
            finally:
                asked.put_nowait(None)

        reading = asyncio.ensure_future(read())
        stopping = asyncio.ensure_future(self._stopping.wait())
        stopping.add_done_callback(lambda _: reading.cancel())
        try:
            while (task := await asked.get()) is not None:
                yield await task
                tasks.discard(task)
                ahead.release()
            if reading.cancelled():  # there may have been more
                raise Refusal("UNAVAILABLE", "the server is stopping; ask another one", reason="STOPPING")
            await reading
        finally:
            for one in (stopping, reading, *tasks):
                one.cancel()
            await asyncio.gather(stopping, reading, *tasks, return_exceptions=True)

    async def _answer(
        self, request: model_service_pb2.PredictRequest, context: Context, *, patient: bool = False
    ) -> model_service_pb2.PredictResponse:
        if request.instance:
            self._instances.model(request.instance)
            patient = True  # it is a run, whose batch must not be refused because others ask, too
        rows = await _read(self._payloads, request.rows, "rows")
        try:
            answered = await self._asking.ask(rows, "rows", context, patient=patient)
            if answered.bad:
                return model_service_pb2.PredictResponse(bad_rows=_bad(answered))
            assert answered.predictions is not None
            batch = self._columns(answered.predictions, request.lines)
        except Refusal:
            raise
        except Exception as error:
            return model_service_pb2.PredictResponse(failure=failure(error))
        model = self._asking.model
        response = model_service_pb2.PredictResponse(
            answers=payload_pb2.Predictions(problem=model.problem, class_names=model.class_names)
        )
        with translated():
            self._payloads.write(batch, request.room, response.answers.rows)
        return response

    def _columns(self, predictions: Predictions, lines: bool) -> pa.RecordBatch:
        """What the model said, and the lines."""
        batch = payload.from_predictions(predictions, bare=True)
        if lines:
            column = pa.array(self._asking.model.lines(predictions), pa.binary())
            batch = batch.append_column("line", column)
        return batch


class Labels(ProcessorServiceServicer):
    """Answers rows as a processor that makes labels of them."""

    def __init__(self, asking: Asking, instances: Instances, payloads: Payloads, calls: Calls) -> None:
        self._asking, self._instances = asking, instances
        self._payloads, self._calls = payloads, calls

    async def Process(
        self, request: processor_service_pb2.ProcessRequest, context: Context
    ) -> processor_service_pb2.ProcessResponse:
        """What the model says of each row: probabilities, a number or a text."""
        self._calls.begin(context)
        return await self._calls.ended("Process", self._answer(request, context))

    async def Draw(
        self, request: processor_service_pb2.DrawRequest, context: Context
    ) -> processor_service_pb2.DrawResponse:
        """Nothing is drawn."""
        raise Refusal("UNIMPLEMENTED", f"{self._asking.model.name} draws nothing")

    async def _answer(
        self, request: processor_service_pb2.ProcessRequest, context: Context
    ) -> processor_service_pb2.ProcessResponse:
        output = self._instances.processor(request.instance)
        rows = await _read(self._payloads, request.columns, "columns")
        model = self._asking.model
        if rows.num_columns != len(model.columns):
            raise invalid("columns", f"{rows.num_columns} columns were given; {model.name} reads {model.columns}")
        try:
            named = rows.rename_columns(list(model.columns))
            answered = await self._asking.ask(named, "columns", context, patient=True)
            if answered.bad:
                return processor_service_pb2.ProcessResponse(bad_rows=_bad(answered))
            assert answered.predictions is not None
            made = payload.batch_of({output: model.labels_of(answered.predictions)})
        except Refusal:
            raise
        except Exception as error:
            return processor_service_pb2.ProcessResponse(failure=failure(error))
        response = processor_service_pb2.ProcessResponse()
        with translated():
            self._payloads.write(made, request.room, response.fields)
        return response


async def _read(payloads: Payloads, given: payload_pb2.Payload, field: str) -> pa.RecordBatch:
    """The rows of a payload."""
    with translated():
        try:
            if given.WhichOneof("place") == "arrow" and len(given.arrow) <= CHECKED_INLINE:
                return payloads.read(given)
            rows = await asyncio.to_thread(payloads.read, given)
            # of the host's memory a copy: a caller that has given up may use it again while its rows still wait
            return payload.read(payload.written(rows)) if given.WhichOneof("place") == "shared" else rows
        except Refused as error:
            if error.code.name == "INVALID_ARGUMENT":
                raise invalid(field, str(error)) from None
            raise


def _bad(answered: Answered) -> payload_pb2.BadRows:
    rows = [
        payload_pb2.BadRow(row=one.row, column=one.column, value=one.value, reason=one.reason) for one in answered.bad
    ]
    return payload_pb2.BadRows(rows=rows)
