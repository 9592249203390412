"""What the classes for plugins in other processes share: an instance there, made when it is first needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from deepgen.v1 import payload_pb2, plugin_pb2, plugin_service_pb2

from .. import errors, payload
from ..connections import Connection
from ..contracts import Predictions
from ..errors import RunError
from ..options import options_of
from ..remote import Link, Lost
from ..schemas import scene_message
from .instance import ATTEMPTS, Instance

if TYPE_CHECKING:
    from ..scene import Scene, Split


class StandIn:
    """What all kinds share: an instance in the other process, which is made when it is first needed."""

    connection: ClassVar[Connection]
    descriptor: ClassVar[plugin_pb2.PluginDescriptor]
    name: ClassVar[str]
    kind: ClassVar[str]
    _instance: Instance | None = None

    def _configuration(self, link: Link) -> plugin_service_pb2.ConfigureRequest:
        plugin: type = type(self)
        values = {option.name: vars(self)[option.name] for option in options_of(plugin, f"{self.kind} {self.name}")}
        return plugin_service_pb2.ConfigureRequest(
            kind=self.descriptor.kind,
            name=self.name,
            options={name: json.dumps(value) for name, value in values.items()},
        )

    @property
    def _there(self) -> Instance:
        if self._instance is None:
            self._instance = Instance(self.connection, self._configuration(self.connection.link))
        return self._instance

    def _configured(self) -> plugin_service_pb2.ConfigureResponse:
        try:
            answer = self._there.configured()
        except Lost as error:
            raise self._ended(error) from None
        self._refuse(answer)
        return answer

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        """Lets the plugin look at the scene, where it wants to."""
        self._configured()
        if "check" not in self.descriptor.abilities:
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
            RunError: the plugin was ended `attempts` times.
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

    def _ended(self, cause: Lost) -> RunError:
        what = f"{self.kind} '{self.name}' ({self.connection.endpoint.text})"
        if self.connection.can_start:
            return RunError(f"{what} was ended {ATTEMPTS} times with the same rows, by {cause}")
        return RunError(f"{what} was asked {ATTEMPTS} times with the same rows and not heard: {cause}")

    def _refuse(self, answer: Any) -> None:
        """Raises what the plugin raised."""
        if not answer.HasField("failure"):
            return
        failure = answer.failure
        own = getattr(errors, failure.kind, None)
        if isinstance(own, type) and issubclass(own, errors.DeepgenError):
            raise own(failure.message) from _There(failure.trace)
        raise type(failure.kind or "Exception", (Exception,), {})(failure.message) from _There(failure.trace)

    def _payload(self, answer: Any, link: Link, place: payload_pb2.Payload) -> pa.RecordBatch:
        return payload.read(self._there.data(link, place))

    def _predictions(self, link: Link, predictions: Predictions, rows: Any) -> payload_pb2.Predictions:
        return payload_pb2.Predictions(
            rows=self._there.place(link, rows), problem=predictions.problem, class_names=predictions.class_names
        )


class _There(Exception):
    """The traceback in the other process, which a traceback of this one then shows as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
