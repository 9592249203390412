"""A plugin at the other end of a connection, in whatever language it is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from deepgen.v1 import metric_service_pb2 as metrics
from deepgen.v1 import outputter_service_pb2 as outputters
from deepgen.v1 import processor_service_pb2 as processors
from deepgen.v1.model_service_pb2 import PredictRequest
from deepgen.v1.payload_pb2 import Payload, SharedMemory
from deepgen.v1.payload_pb2 import Predictions as Sent
from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.plugin_service_pb2 import ConfigureRequest, ConfigureResponse, ReleaseRequest

from ...kernel.contracts import BadRow, Predictions, State
from ...kernel.payload import from_predictions, from_state, to_state
from ...kernel.wire_features import TOKENIZER
from . import parcels, tokenizer
from .checks import Wrong
from .subject import Failed, Unread
from .wire import Wire


class Connected(Protocol):
    """Where the connection comes from; a program that has ended is started again."""

    @property
    def wire(self) -> Wire: ...

    @property
    def features(self) -> frozenset[str]: ...


class Far:
    """One plugin of a server.

    Each call keeps the connection it began with: where the program ends meanwhile, `at.wire` is one to the next.
    """

    def __init__(self, at: Connected, descriptor: PluginDescriptor) -> None:
        self.at, self.descriptor = at, descriptor

    def request(
        self, instance: str, options: Mapping[str, str], inputs: Sequence[str] = (), output: str = ""
    ) -> ConfigureRequest:
        """What `configure` sends."""
        reads = self.descriptor.kind == PluginDescriptor.PROCESSOR and TOKENIZER in self.at.features
        return ConfigureRequest(
            instance=instance,
            kind=self.descriptor.kind,
            name=self.descriptor.name,
            options=options,
            inputs=inputs,
            output=output,
            tokenizer=tokenizer.files() if reads else {},
        )

    def configure(
        self, instance: str, options: Mapping[str, str], inputs: Sequence[str] = (), output: str = ""
    ) -> ConfigureResponse:
        wire = self.at.wire
        answer = wire.ask(wire.plugin.Configure, self.request(instance, options, inputs, output))
        _raise(answer)
        return answer

    def release(self, instance: str) -> None:
        wire = self.at.wire
        wire.ask(wire.plugin.Release, ReleaseRequest(instance=instance))

    def process(self, instance: str, columns: pa.RecordBatch) -> pa.RecordBatch:
        wire = self.at.wire
        request = self.first(instance, parcels.parcel(wire, parcels.batch(columns)))
        return self._opened(wire, wire.ask(wire.processor.Process, request), "Process")

    def first(self, instance: str, rows: Payload, room: SharedMemory | None = None, problem: str = "") -> Any:
        """The request of the call that takes rows: Process, Update or Format."""
        if self.descriptor.kind == PluginDescriptor.PROCESSOR:
            return processors.ProcessRequest(instance=instance, columns=rows, room=room)
        sent = Sent(rows=rows, problem=problem, class_names=("x", "y", "z"))
        if self.descriptor.kind == PluginDescriptor.METRIC:
            return metrics.UpdateRequest(instance=instance, predictions=sent, room=room)
        return outputters.FormatRequest(instance=instance, predictions=sent, room=room)

    def method(self) -> Any:
        """That call."""
        wire = self.at.wire
        kinds = {PluginDescriptor.PROCESSOR: wire.processor.Process, PluginDescriptor.METRIC: wire.metric.Update}
        return kinds.get(self.descriptor.kind, wire.outputter.Format)

    def draw(self, instance: str, fields: pa.RecordBatch, keys: np.ndarray) -> pa.RecordBatch:
        wire = self.at.wire
        sent = parcels.parcel(wire, parcels.batch(fields))
        request = processors.DrawRequest(instance=instance, fields=sent, keys=keys.tolist())
        return self._opened(wire, wire.ask(wire.processor.Draw, request), "Draw")

    def update(self, instance: str, predictions: Predictions) -> State:
        wire = self.at.wire
        request = metrics.UpdateRequest(instance=instance, predictions=self._sent(wire, predictions))
        return to_state(self._opened(wire, wire.ask(wire.metric.Update, request), "Update"))

    def merge(self, instance: str, states: Sequence[State]) -> State:
        wire = self.at.wire
        request = metrics.MergeRequest(instance=instance, states=[self._state(wire, state) for state in states])
        return to_state(self._opened(wire, wire.ask(wire.metric.Merge, request), "Merge"))

    def compute(self, instance: str, state: State, class_names: Sequence[str]) -> dict[str, float]:
        wire = self.at.wire
        request = metrics.ComputeRequest(instance=instance, state=self._state(wire, state), class_names=class_names)
        answer = wire.ask(wire.metric.Compute, request)
        _raise(answer)
        return {score.key: score.value for score in answer.scores}

    def columns(self, instance: str, problem: str, result_columns: Sequence[str]) -> list[str]:
        wire = self.at.wire
        request = outputters.ColumnsRequest(instance=instance, problem=problem, result_columns=result_columns)
        answer = wire.ask(wire.outputter.Columns, request)
        _raise(answer)
        return list(answer.columns)

    def format(self, instance: str, predictions: Predictions) -> list[str] | list[bytes]:
        wire = self.at.wire
        request = outputters.FormatRequest(instance=instance, predictions=self._sent(wire, predictions))
        rows = self._opened(wire, wire.ask(wire.outputter.Format, request), "Format")
        if rows.schema.names != ["row"]:
            raise Wrong("Format", f"the columns {', '.join(rows.schema.names)}", "one column, `row`")
        made: list[str] | list[bytes] = rows.column(0).to_pylist()
        return made

    def assemble(self, instance: str, portions: Iterable[Sequence[bytes]], count: int) -> bytes:
        wire = self.at.wire

        def requests() -> Iterator[outputters.AssembleRequest]:
            yield outputters.AssembleRequest(instance=instance, count=count)
            for portion in portions:
                column = pa.RecordBatch.from_pydict({"row": pa.array(portion, pa.binary())})
                yield outputters.AssembleRequest(rows=Payload(arrow=parcels.batch(column)))

        answers = wire.stream(wire.outputter.Assemble, requests())
        for answer in answers:
            _raise(answer)
        return b"".join(answer.data for answer in answers)

    def read(self, instance: str, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        wire = self.at.wire
        answer = wire.ask(wire.outputter.Read, outputters.ReadRequest(instance=instance, row=row, columns=columns))
        _raise(answer)
        return [json.loads(line) for line in answer.lines]

    def predict(self, rows: pa.RecordBatch, *, lines: bool = False) -> pa.RecordBatch:
        wire = self.at.wire
        request = PredictRequest(rows=parcels.parcel(wire, parcels.batch(rows)), lines=lines)
        answer = wire.ask(wire.model.Predict, request)
        _raise(answer)
        return parcels.opened(wire, answer.answers.rows, what="Predict")

    def _sent(self, wire: Wire, predictions: Predictions) -> Sent:
        payload = parcels.parcel(wire, parcels.batch(from_predictions(predictions)))
        return Sent(rows=payload, problem=predictions.problem, class_names=predictions.class_names)

    def _state(self, wire: Wire, state: State) -> Payload:
        return parcels.parcel(wire, parcels.batch(from_state(state)))

    def _opened(self, wire: Wire, answer: Any, what: str) -> pa.RecordBatch:
        _raise(answer)
        place = answer.WhichOneof("result")
        if place is None:
            raise Wrong(what, "an answer with neither rows nor a failure", "one of them")
        return parcels.opened(wire, getattr(answer, place), what=what)


def _raise(answer: Any) -> None:
    """Raises what an answer says of the plugin's own failure."""
    if answer.HasField("failure"):
        raise Failed(answer.failure.kind, answer.failure.message)
    if "bad_rows" in answer.DESCRIPTOR.fields_by_name and answer.HasField("bad_rows"):
        raise Unread([BadRow(bad.row, bad.column, bad.value, bad.reason) for bad in answer.bad_rows.rows])
