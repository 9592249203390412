"""Plugins as they were configured, by the name that the host gave them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc

from deepgen.v1 import plugin_pb2, plugin_service_pb2

from ...kernel import registry
from ...kernel.contracts import Metric, Outputter, Plugin, Processor
from ...kernel.errors import PluginError, SceneError, did_you_mean
from ...kernel.options import build
from ...kernel.schemas import field_message
from .refusals import Refused, failure, invalid, not_found
from .tokenizers import Tokenizers
from .turns import Instance, Turns
from .values import option_values

MOST = 1000
"""Instances at one time; the one that was idle the longest is forgotten for another."""
Offered = Mapping[tuple[str, str], registry.Found]
"""What is served, by kind and name."""


@dataclass(frozen=True)
class _Made:
    instance: Instance
    request: bytes
    answer: plugin_service_pb2.ConfigureResponse
    tokenizer: str = ""


class Instances:
    """All of them."""

    def __init__(self, offered: Offered, turns: Turns) -> None:
        self._offered, self.turns = offered, turns
        self._known: dict[str, _Made] = {}
        self._lock = threading.Lock()
        self._tokenizers = Tokenizers()

    def configure(self, request: plugin_service_pb2.ConfigureRequest) -> plugin_service_pb2.ConfigureResponse:
        """Makes one, unless it is there already.

        Raises:
            Refused: the name is taken by another configuration, or the request is wrong in itself.
        """
        if not request.instance:
            raise invalid("instance: a name is missing")
        state = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        known = self._known.get(request.instance)
        if known is None:
            try:
                made = self._made(request, state)  # others are made meanwhile: it may take long, or hang
            except Refused:
                raise
            except (Exception, SystemExit) as error:
                return plugin_service_pb2.ConfigureResponse(failure=failure(error))
            with self._lock:
                known = self._known.get(request.instance)
                if known is None:
                    self._forget_idle()
                    known = self._known[request.instance] = made
                else:
                    self._leave(made)
        if known.request != state:
            raise Refused(
                grpc.StatusCode.ALREADY_EXISTS,
                f"instance '{request.instance}' is there with another configuration; release it first",
            )
        return known.answer

    def release(self, name: str) -> None:
        """Forgets one; a call that it works on comes to its end."""
        with self._lock:
            self._forget(name)

    def find(self, name: str, kind: type[Plugin]) -> Instance:
        """The one of that name and kind.

        Raises:
            Refused: there is none.
        """
        known = self._known.get(name)
        if known is None:
            raise not_found(f"no instance is called '{name}'; configure it first")
        if not isinstance(known.instance.plugin, kind):
            raise invalid(f"instance '{name}' is a {known.instance.plugin.kind}, not a {kind.kind}")
        known.instance.used = time.monotonic()
        return known.instance

    def close(self) -> None:
        """Deletes what they have on the disk."""
        self._tokenizers.close()

    def _forget_idle(self) -> None:
        """Makes place for one more: a host that was killed releases none. One that is missed is configured again."""
        idle = [made.instance for made in self._known.values() if not made.instance.is_busy]
        if len(self._known) >= MOST and idle:
            self._forget(min(idle, key=lambda instance: instance.used).name)

    def _forget(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            self._leave(known)

    def _leave(self, made: _Made) -> None:
        if made.tokenizer:
            self._tokenizers.give_back(made.tokenizer)

    def _made(self, request: plugin_service_pb2.ConfigureRequest, state: bytes) -> _Made:
        plugin = self._plugin(request.kind, request.name)
        owner = f"{plugin.kind} {plugin.name}"
        values = option_values(plugin, owner, request.options)
        inputs, output, tokenizer, pretrained = tuple(request.inputs), request.output, "", None
        if issubclass(plugin, Processor) and request.tokenizer:
            tokenizer, pretrained = self._tokenizers.take(request.tokenizer)

        def make() -> Plugin:
            made: Plugin = build(plugin, values, owner)
            if isinstance(made, Processor):
                _check_columns(made, inputs)
                made.bind(inputs, output, pretrained)
            return made

        try:
            instance = Instance(request.instance, make, self.turns)
            return _Made(instance, state, _answer(instance.plugin, owner), tokenizer)
        except BaseException:
            if tokenizer:
                self._tokenizers.give_back(tokenizer)
            raise

    def _plugin(self, number: int, name: str) -> type[Plugin]:
        try:
            kind = plugin_pb2.PluginDescriptor.Kind.Name(number).lower()  # type: ignore[arg-type]
        except ValueError:
            raise PluginError(f"kind {number} of plugin is not known here") from None
        if kind not in registry.KINDS:
            raise invalid("kind: it is missing")
        found = self._offered.get((kind, name))
        if found is None:
            if kind in ("model", "trainer"):
                raise PluginError(why_not(kind, name))
            known = [other for one, other in self._offered if one == kind]
            near = did_you_mean(name, known) or (f"; it offers {', '.join(sorted(known))}" if known else "")
            raise PluginError(f"this plugin server offers no {kind} called '{name}'{near}")
        return found.plugin


def why_not(kind: str, name: str) -> str:
    """Why plugins of that kind are not served."""
    if kind == "model":
        return (
            f"model '{name}' is not served: the ranks build and train its module, so give its file as --plugin; "
            "`deepgen serve-model FOLDER` serves the model of a finished run"
        )
    return f"{kind} '{name}' is not served: it steers the ranks of a run from inside; give its file as --plugin"


def _answer(made: Plugin, owner: str) -> plugin_service_pb2.ConfigureResponse:
    answer = plugin_service_pb2.ConfigureResponse()
    if isinstance(made, Processor):
        answer.fields.extend(field_message(one) for one in made.fields())
        answer.class_names.extend(made.class_names())
        answer.reference_column = made.reference_column() or ""
    elif isinstance(made, Metric):
        answer.keys.extend(made.keys())
    elif not isinstance(made, Outputter):
        raise PluginError(f"{owner} is served by no plugin server")
    return answer


def _check_columns(processor: Processor, inputs: Sequence[str]) -> None:
    least, most = processor.columns_in
    if not least <= len(inputs) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise SceneError(f"processor {processor.name} takes {wanted} columns; {len(inputs)} were given")
