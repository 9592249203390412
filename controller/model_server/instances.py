"""The served model under the names that callers gave it, as a model or as a processor."""

from __future__ import annotations

from deepgen.v1 import plugin_pb2, plugin_service_pb2

from ...kernel.contracts import Field
from ...kernel.errors import PluginError, SceneError, UserError
from ...kernel.schemas import field_message
from ..plugin_server.refusals import failure
from ..refusals import Refusal, invalid
from .model import ServedModel

Request = plugin_service_pb2.ConfigureRequest
Response = plugin_service_pb2.ConfigureResponse


class Instances:
    """All names; there is one model behind them."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._known: dict[str, tuple[Request, Response]] = {}

    def configure(self, request: Request) -> Response:
        """Takes a name down; the same request again gives the same answer.

        Raises:
            Refusal: the name is missing, or means something else.
        """
        if not request.instance:
            raise invalid("instance", "the instance has no name")
        known = self._known.get(request.instance)
        if known is None:
            try:
                known = self._known[request.instance] = request, self._answer(request)
            except UserError as error:
                return Response(failure=failure(error))
        if known[0] != request:
            text = f"instance '{request.instance}' is there with another configuration; release it first"
            raise Refusal("ALREADY_EXISTS", text)
        return known[1]

    def release(self, name: str) -> None:
        """Forgets a name."""
        self._known.pop(name, None)

    def model(self, name: str) -> None:
        """Raises Refusal where no model has that name."""
        self._find(name, plugin_pb2.PluginDescriptor.MODEL, "model")

    def processor(self, name: str) -> str:
        """The output of the processor of that name; raises Refusal where there is none."""
        return self._find(name, plugin_pb2.PluginDescriptor.PROCESSOR, "processor").output

    def known(self, name: str) -> None:
        """Raises Refusal where nothing has that name."""
        if name not in self._known:
            raise Refusal("NOT_FOUND", f"no instance is called '{name}'; configure it first")

    def _find(self, name: str, kind: plugin_pb2.PluginDescriptor.Kind.ValueType, word: str) -> Request:
        self.known(name)
        request, _ = self._known[name]
        if request.kind != kind:
            raise invalid("instance", f"instance '{name}' is no {word}")
        return request

    def _answer(self, request: Request) -> Response:
        model = self._model
        if request.name != model.name:
            raise PluginError(f"nothing is called '{request.name}' here; {model.name} is served")
        if request.options:
            raise PluginError(f"{model.name} has no options; {', '.join(sorted(request.options))} was given")
        if request.kind == plugin_pb2.PluginDescriptor.MODEL:
            fields = [field_message(Field(name, "string")) for name in model.columns]
            return Response(fields=fields, class_names=model.class_names, problem=model.problem)
        if request.kind != plugin_pb2.PluginDescriptor.PROCESSOR:
            raise PluginError(f"{model.name} is a model, and a processor that makes labels")
        if len(request.inputs) != len(model.columns):
            wanted = f"{len(model.columns)}: {', '.join(model.columns)}"
            raise SceneError(f"processor {model.name} takes {wanted}; {len(request.inputs)} columns were given")
        field = model.labels(request.output)
        return Response(fields=[field_message(field)], class_names=model.class_names if field.shape == "fixed" else ())
