"""The metric service: states of some rows, states joined, scores of a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import grpc
import numpy as np

from deepgen.v1 import metric_service_pb2, payload_pb2
from deepgen.v1.metric_service_pb2_grpc import MetricServiceServicer

from ...kernel import payload
from ...kernel.contracts import Metric, Predictions, State
from ...kernel.errors import PluginError
from .instances import Instances
from .payloads import Payloads
from .refusals import Refused, failure, invalid
from .turns import Instance


class Metrics(MetricServiceServicer):
    """Answers for all instances of metrics. Nothing is kept between calls."""

    def __init__(self, instances: Instances, payloads: Payloads) -> None:
        self._instances, self._payloads = instances, payloads

    def Update(
        self, request: metric_service_pb2.UpdateRequest, context: grpc.ServicerContext
    ) -> metric_service_pb2.StateResponse:
        """The state of some rows."""
        instance = self._instances.find(request.instance, Metric)
        predictions = read_predictions(self._payloads, request.predictions)
        return self._state(instance, context, request.room, lambda metric: metric.update(predictions))

    def Merge(
        self, request: metric_service_pb2.MergeRequest, context: grpc.ServicerContext
    ) -> metric_service_pb2.StateResponse:
        """Several states as one."""
        instance = self._instances.find(request.instance, Metric)
        states = [self._read(one) for one in request.states]
        return self._state(instance, context, request.room, lambda metric: metric.merge(states))

    def Compute(
        self, request: metric_service_pb2.ComputeRequest, context: grpc.ServicerContext
    ) -> metric_service_pb2.ComputeResponse:
        """The scores of a state."""
        instance = self._instances.find(request.instance, Metric)
        state = self._read(request.state)
        with instance.turn(context) as metric:
            try:
                scores = cast(Metric, metric).compute(state, tuple(request.class_names))
                listed = [metric_service_pb2.Score(key=key, value=float(value)) for key, value in scores.items()]
                return metric_service_pb2.ComputeResponse(scores=listed)
            except (Exception, SystemExit) as error:
                return metric_service_pb2.ComputeResponse(failure=failure(error))

    def _read(self, given: payload_pb2.Payload) -> State:
        try:
            state = payload.to_state(self._payloads.read(given))
        except PluginError as error:
            raise invalid(str(error)) from None
        return {name: own(array) for name, array in state.items()}

    def _state(
        self,
        instance: Instance,
        context: grpc.ServicerContext,
        room: payload_pb2.SharedMemory,
        make: Callable[[Metric], State],
    ) -> metric_service_pb2.StateResponse:
        with instance.turn(context) as metric:
            try:
                batch = payload.from_state(make(cast(Metric, metric)))
                answer = metric_service_pb2.StateResponse()
                self._payloads.write(batch, room, answer.state)
                return answer
            except Refused:
                raise
            except (Exception, SystemExit) as error:
                return metric_service_pb2.StateResponse(failure=failure(error))


def read_predictions(payloads: Payloads, given: payload_pb2.Predictions) -> Predictions:
    """A model's answers, in arrays that a plugin may change."""
    batch = payloads.read(given.rows)
    try:
        made = payload.to_predictions(batch, given.problem, given.class_names)
    except PluginError as error:
        raise invalid(str(error)) from None
    made.rows = own(made.rows)
    made.scores, made.labels = own(made.scores), own(made.labels)
    made.more = {name: own(array) for name, array in made.more.items()}
    made.vectors = {side: own(array) for side, array in made.vectors.items()}
    return made


def own(array: Any) -> Any:
    """The array, copied where it lies in memory that may not be written, as it may in the process of a kernel."""
    return array.copy() if isinstance(array, np.ndarray) and not array.flags.writeable else array
