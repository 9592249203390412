"""A metric in another process."""

from __future__ import annotations

from collections.abc import Sequence

from deepgen.v1 import metric_service_pb2

from .. import payload
from ..contracts import Metric, Predictions, State
from .stand_in import StandIn


class RemoteMetric(StandIn, Metric):
    def keys(self) -> tuple[str, ...]:
        return tuple(self._configured().keys)

    def update(self, predictions: Predictions) -> State:
        answer, link = self._asked_with("metric", "Update", metric_service_pb2.UpdateRequest, predictions)
        return payload.to_state(self._payload(answer, link, answer.state))

    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        data = payload.written(payload.from_state(state))
        answer = self._call(
            "metric",
            "Compute",
            lambda link: metric_service_pb2.ComputeRequest(
                instance=self._there.name, state=self._there.place(link, data), class_names=class_names
            ),
        )
        return {score.key: score.value for score in answer.scores}


class MergingMetric(RemoteMetric):
    def merge(self, states: Sequence[State]) -> State:
        if not states:
            return {}
        datas = [payload.written(payload.from_state(state)) for state in states]
        answer, link = self._asked(
            "metric",
            "Merge",
            lambda link: metric_service_pb2.MergeRequest(
                instance=self._there.name,
                states=[self._there.place(link, data) for data in datas],
                room=self._there.room(link),
            ),
        )
        return payload.to_state(self._payload(answer, link, answer.state))
