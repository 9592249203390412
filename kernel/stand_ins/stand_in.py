"""What the classes for plugins in other processes share: an instance there, made when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from deepgen.v1 import payload_pb2, plugin_pb2, plugin_service_pb2

from .. import payload
from ..connections import Connection
from ..contracts import Predictions
from ..errors import DataError, DeepgenError, PluginError, RunError, SceneError
from ..options import options_of
from ..remote import Link, Lost
from ..schemas import scene_message
from .instance import ATTEMPTS, Instance

if TYPE_CHECKING:
    from ..scene import Scene, Split


KINDS: Mapping[str, type[DeepgenError]] = {
    kind.__name__: kind for kind in (SceneError, DataError, PluginError, RunError)
}
"""The errors that keep their meaning on the way; any other is a failure of the run under its own name."""


class Ended(RunError):
    """The plugin was ended as often as it was asked."""


class StandIn:
    """What all kinds share: an instance in the other process, which is made when it is first needed."""

    _connection: ClassVar[Connection]
    _descriptor: ClassVar[plugin_pb2.PluginDescriptor]
    name: ClassVar[str]
    kind: ClassVar[str]
    _instance: Instance | None = None

    def _configuration(self, link: Link) -> plugin_service_pb2.ConfigureRequest:
        plugin: type = type(self)
        values = {option.name: vars(self)[option.name] for option in options_of(plugin, f"{self.kind} {self.name}")}
        return plugin_service_pb2.ConfigureRequest(
            kind=self._descriptor.kind,
            name=self.name,
            options={name: json.dumps(value) for name, value in values.items()},
        )

    @property
    def _there(self) -> Instance:
        if self._instance is None:
            self._instance = Instance(self._connection, self._configuration(self._connection.link))
        return self._instance

    def _configured(self) -> plugin_service_pb2.ConfigureResponse:
        try:
            answer = self._there.configured()
        except Lost as error:
            raise self._ended(error, "while it was configured") from None
        self._refuse(answer)
        return answer

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        """Lets the plugin look at the scene, where it wants to."""
        self._configured()
        if "check" not in self._descriptor.abilities:
            return ()
        message = scene_message(scene)
        answer = self._call(
            "plugin",
            "Check",
            lambda link: plugin_service_pb2.CheckRequest(instance=self._there.name, scene=message, splits=splits),
        )
        return tuple(answer.notes)

    def _call(self, service: str, method: str, make: Callable[[Link], Any]) -> Any:
        return self._asked(service, method, make)[0]

    def _asked(
        self, service: str, method: str, make: Callable[[Link], Any], attempts: int = ATTEMPTS
    ) -> tuple[Any, Link]:
        """The answer to a call, once the plugin is configured, and who gave it.

        Raises:
            DeepgenError: as the plugin raised it; any other exception has the name that it has there.
            Ended: the plugin was ended ATTEMPTS times. Lost: it was, with fewer `attempts`.
        """
        self._configured()
        try:
            answer, link = self._there.call(service, method, make, attempts)
        except Lost as error:
            if attempts < ATTEMPTS:
                raise
            raise self._ended(error) from None
        self._refuse(answer)
        return answer, link

    def _ended(self, cause: Lost, when: str = "with the same rows", times: int = ATTEMPTS) -> Ended:
        what = f"{self.kind} '{self.name}' ({self._connection.endpoint.text})"
        if self._connection.can_start:
            return Ended(f"{what} was ended {times} times {when}, by {cause}")
        return Ended(f"{what} was asked {times} times {when} and not heard: {cause}")

    def _refuse(self, answer: Any) -> None:
        """Raises what the plugin raised."""
        if not answer.HasField("failure"):
            return
        failure = answer.failure
        if failure.kind in KINDS:
            raise KINDS[failure.kind](failure.message) from _There(failure.trace)
        raise type(failure.kind or "Exception", (Exception,), {})(failure.message) from _There(failure.trace)

    def _payload(self, answer: Any, link: Link, place: payload_pb2.Payload) -> pa.RecordBatch:
        return payload.read(self._there.data(link, place))

    def _asked_with(self, service: str, method: str, kind: type[Any], predictions: Predictions) -> tuple[Any, Link]:
        """The answer to a request that brings predictions, and who gave it; raises like `_asked`.

        Args:
            kind: the message, which has an instance, predictions, and room for the answer.
        """
        data = payload.written(payload.from_predictions(predictions))

        def make(link: Link) -> Any:
            request = kind(instance=self._there.name, room=self._there.room(link))
            self._there.place(link, data, request.predictions.rows)
            request.predictions.problem = predictions.problem
            request.predictions.class_names.extend(predictions.class_names)
            return request

        return self._asked(service, method, make)


class _There(Exception):
    """The traceback in the other process, which a traceback of this one then shows as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
