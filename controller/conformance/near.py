"""A plugin class in this process, called as the kernel calls it."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.plugin_service_pb2 import ConfigureResponse

from ...kernel import registry
from ...kernel.contracts import BadRows, Field, Plugin, Predictions, State
from ...kernel.descriptors import describe
from ...kernel.errors import SceneError
from ...kernel.options import build, options_of
from ...kernel.payload import batch_of
from ...kernel.pretrained import Pretrained, PretrainedSettings
from ...kernel.schemas import field_message
from ..plugin_server.processors import checked
from . import tokenizer
from .subject import Failed, Unread


def registered(kind: str, name: str) -> Near:
    """A plugin of this process's registry.

    Raises:
        PluginError: it cannot say what it is.
    """
    found = registry.find(kind, name)
    return Near(found.plugin, describe(found))


class Near:
    """A plugin class."""

    def __init__(self, plugin: type[Plugin], descriptor: PluginDescriptor) -> None:
        self.plugin, self.descriptor = plugin, descriptor
        self._made: dict[str, tuple[Any, Any]] = {}

    def configure(
        self, instance: str, options: Mapping[str, str], inputs: Sequence[str] = (), output: str = ""
    ) -> ConfigureResponse:
        wanted = (dict(options), tuple(inputs), output)
        if instance not in self._made or self._made[instance][0] != wanted:
            self._made[instance] = (wanted, _guarded(lambda: self._make(*wanted)))
        made = self._made[instance][1]
        answer: ConfigureResponse = _guarded(lambda: _answer(made))
        return answer

    def _make(self, options: Mapping[str, str], inputs: Sequence[str], output: str) -> Any:
        owner = f"{self.plugin.kind} {self.plugin.name}"
        declared = {option.name: option for option in options_of(self.plugin, owner)}
        values = {}
        for name, text in options.items():
            value = json.loads(text)
            try:
                values[name] = declared[name].parse(_raw(value)) if name in declared else value
            except ValueError as error:
                raise SceneError(f"{name} = '{text}' {error}") from None
        made = build(self.plugin, values, owner)
        if made.kind == "processor":
            made.bind(inputs, output, self._pretrained)
        return made

    @cached_property
    def _pretrained(self) -> Pretrained:
        self._folder = tempfile.TemporaryDirectory(prefix="deepgen-check-")
        for name, data in tokenizer.files().items():
            (Path(self._folder.name) / name).write_bytes(data)
        return Pretrained(PretrainedSettings(self._folder.name))

    def made(self, instance: str) -> Any:
        """The plugin itself."""
        return self._made[instance][1]

    def release(self, instance: str) -> None:
        self._made.pop(instance, None)

    def process(self, instance: str, columns: pa.RecordBatch) -> pa.RecordBatch:
        made = self._made[instance][1]
        given: pa.RecordBatch = _guarded(lambda: checked(made, made.process(columns.columns), columns.num_rows))
        made.cut.clear()
        return given

    def draw(self, instance: str, fields: pa.RecordBatch, keys: np.ndarray) -> pa.RecordBatch:
        made = self._made[instance][1]
        declared: dict[str, Field] = _guarded(lambda: {field.name: field for field in made.fields()})
        rows = {name: _taken(declared[name], fields.column(name)) for name in fields.schema.names}

        def draw() -> pa.RecordBatch:
            drawn = made.draw(rows, keys)
            return batch_of({name: pa.array([_listed(value) for value in values]) for name, values in drawn.items()})

        given: pa.RecordBatch = _guarded(draw)
        return given

    def update(self, instance: str, predictions: Predictions) -> State:
        made = self._made[instance][1]
        given: State = _guarded(lambda: made.update(predictions))
        return given

    def merge(self, instance: str, states: Sequence[State]) -> State:
        made = self._made[instance][1]
        given: State = _guarded(lambda: made.merge(states))
        return given

    def compute(self, instance: str, state: State, class_names: Sequence[str]) -> dict[str, float]:
        made = self._made[instance][1]
        given: dict[str, float] = _guarded(lambda: made.compute(state, tuple(class_names)))
        return given

    def columns(self, instance: str, problem: str, result_columns: Sequence[str]) -> list[str]:
        made = self._made[instance][1]
        given: list[str] = _guarded(lambda: list(made.columns(problem, tuple(result_columns))))
        return given

    def format(self, instance: str, predictions: Predictions) -> list[str] | list[bytes]:
        made = self._made[instance][1]
        given: list[str] | list[bytes] = _guarded(lambda: made.format(predictions))
        return given

    def assemble(self, instance: str, portions: Iterable[Sequence[bytes]], count: int) -> bytes:
        made, file = self._made[instance][1], io.BytesIO()
        _guarded(lambda: made.assemble((row for portion in portions for row in portion), count, file))
        return file.getvalue()

    def read(self, instance: str, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        made = self._made[instance][1]
        given: list[dict[str, Any]] = _guarded(lambda: made.read(row, tuple(columns)))
        return given

    def predict(self, rows: pa.RecordBatch, *, lines: bool = False) -> pa.RecordBatch:
        raise NotImplementedError("a model is checked where it is served")


def _answer(made: Any) -> ConfigureResponse:
    """What an instance says of itself."""
    if made.kind == "processor":
        return ConfigureResponse(
            fields=[field_message(field) for field in made.fields()],
            class_names=made.class_names(),
            reference_column=made.reference_column() or "",
        )
    return ConfigureResponse(keys=made.keys() if made.kind == "metric" else ())


def _guarded(call: Callable[[], Any]) -> Any:
    """What a call gives; what it raises is the plugin's answer, too, also where it would end this process."""
    try:
        return call()
    except BadRows as error:
        raise Unread(error.rows) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Failed(type(error).__name__, str(error)) from error


def _raw(value: Any) -> Any:
    """A JSON value as a scene would hold it: the text of a scalar."""
    if isinstance(value, Mapping):
        return {key: _raw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_raw(item) for item in value]
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _taken(field: Field, column: pa.Array) -> Any:
    """A column in the form that `draw` is given."""
    if field.dtype == "string":
        return column.to_pylist()
    if field.shape == "scalar":
        return column.to_numpy(zero_copy_only=False)
    rows = [np.asarray(row, np.int32 if field.dtype == "int64" else np.float32) for row in column.to_pylist()]
    return rows if field.shape == "ragged" else np.array(rows)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
