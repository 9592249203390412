"""A served model that answers wrongly is named, with what is wrong, before anybody uses the answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from deepgen.kernel import payload
from deepgen.kernel.connections import Connection
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import DataError, PluginError, RunError
from deepgen.kernel.stand_ins.classes import classes_at
from deepgen.v1 import model_service_pb2, payload_pb2, plugin_pb2
from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceServicer, add_PluginServiceServicer_to_server

TEXT = plugin_pb2.Field(name="text", dtype="string", shape=plugin_pb2.Field.SCALAR)


class Odd(PluginServiceServicer, ModelServiceServicer):
    """Gives as many answers as the first text says; bad rows for `bad`, nothing for `none`, a failure for `ended`."""

    def Handshake(self, request: Any, context: Any) -> wire.HandshakeResponse:
        return wire.HandshakeResponse(protocol_version=1, features=["payload.parts.v1"], nonce=request.nonce)

    def Describe(self, request: Any, context: Any) -> wire.DescribeResponse:
        model = plugin_pb2.PluginDescriptor(kind=plugin_pb2.PluginDescriptor.MODEL, name="odd", inputs=[TEXT])
        return wire.DescribeResponse(plugins=[model])

    def Configure(self, request: Any, context: Any) -> wire.ConfigureResponse:
        return wire.ConfigureResponse(problem="regression", fields=[TEXT])

    def Predict(self, request: Any, context: Any) -> model_service_pb2.PredictResponse:
        first = payload.read(request.rows.arrow).column(0)[0].as_py()
        if first in ("bad", "none"):
            bad = [payload_pb2.BadRow(column="text", value="bad", reason="is bad")] * (first == "bad")
            return model_service_pb2.PredictResponse(bad_rows=payload_pb2.BadRows(rows=bad))
        if first == "ended":
            failure = payload_pb2.Failure(kind="RunError", message="the process was ended", trace="there")
            return model_service_pb2.PredictResponse(failure=failure)
        count = int(first)
        made = Predictions(np.arange(count), "regression", np.ones((count, 1), np.float32))
        rows = payload_pb2.Payload(arrow=payload.written(payload.from_predictions(made)).to_pybytes())
        return model_service_pb2.PredictResponse(answers=payload_pb2.Predictions(rows=rows, problem="regression"))


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Any]:
    odd = Odd()  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(2))
    add_PluginServiceServicer_to_server(odd, server)
    add_ModelServiceServicer_to_server(odd, server)
    server.add_insecure_port(f"unix:{tmp_path}/odd.sock")
    server.start()
    connection = Connection(f"unix:{tmp_path}/odd.sock")
    yield classes_at(connection)[0]()
    connection.end()
    server.stop(None)


@pytest.mark.parametrize(
    ("texts", "kind", "words"),
    [
        (["2", "x", "y"], PluginError, "model 'odd' gave 2 answers for 3 rows"),
        (["4", "x", "y"], PluginError, "model 'odd' gave 4 answers for 3 rows"),
        (["bad", "x"], DataError, "'bad' in text is bad, says model 'odd'"),
        (["none", "x"], PluginError, "gave an answer without a payload"),
        (["ended", "x"], RunError, r"^model 'odd' \(unix:/.*/odd.sock\): the process was ended$"),
    ],
)
def test_answers_that_do_not_fit_the_rows(model: Any, texts: list[str], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        model.predict(None, {"text": texts})
    assert model.predict(None, {"text": ["3", "x", "y"]})["scores"].tolist() == [[1.0]] * 3
