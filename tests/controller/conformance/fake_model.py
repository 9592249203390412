"""A served model of two columns, by bare gRPC, that may break one rule; it answers with the lengths of the texts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pyarrow as pa

from deepgen.kernel.payload import read, written
from deepgen.v1 import model_service_pb2, payload_pb2, plugin_pb2, plugin_service_pb2
from deepgen.v1.model_service_pb2_grpc import ModelServiceServicer, add_ModelServiceServicer_to_server
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceServicer, add_PluginServiceServicer_to_server

COLUMNS = ("text", "other")
Answer = model_service_pb2.PredictResponse


class Identity(PluginServiceServicer):
    """Who it is."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def Handshake(self, request: Any, context: Any) -> Any:
        features = ["payload.parts.v1", "model.lines.v1"]
        return plugin_service_pb2.HandshakeResponse(protocol_version=1, plugin="fake", features=features)

    def Describe(self, request: Any, context: Any) -> Any:
        names = ("text", "text") if self.broken == "describe.inputs" else COLUMNS
        inputs = [plugin_pb2.Field(name=name, dtype="string", shape=plugin_pb2.Field.SCALAR) for name in names]
        model = plugin_pb2.PluginDescriptor(
            kind=plugin_pb2.PluginDescriptor.MODEL, name="fake", version="1", summary="Lengths.", inputs=inputs
        )
        return plugin_service_pb2.DescribeResponse(plugins=[model])

    def Probe(self, request: Any, context: Any) -> Any:
        return plugin_service_pb2.ProbeResponse(ready=True)


class Model(ModelServiceServicer):
    """What it answers."""

    def __init__(self, broken: str) -> None:
        self.broken = broken
        self.open = False

    def Predict(self, request: Any, context: Any) -> Any:
        rows = read(request.rows.arrow)
        missing = [name for name in COLUMNS if name not in rows.schema.names]
        if missing and self.broken == "model.column_missing":
            rows = rows.append_column(missing[0], pa.array([""] * rows.num_rows))
        elif missing:
            return Answer(failure=payload_pb2.Failure(kind="DataError", message=f"no column '{missing[0]}'"))
        if self.broken == "model.columns_more" and rows.num_columns > len(COLUMNS):
            return Answer(failure=payload_pb2.Failure(kind="DataError", message="a column too many"))
        texts = rows.column("text").to_pylist()
        if self.broken == "model.odd_texts":
            [text.encode("ascii") for text in texts]
        if self.broken == "model.predict" or self.open:
            texts = texts[1:]
        scores = np.array(
            [[len(text), place * (self.broken == "model.split_invariance")] for place, text in enumerate(texts)]
        )
        flat = pa.array(scores.astype(np.float32).reshape(-1))
        columns: dict[str, Any] = {"scores": pa.FixedSizeListArray.from_arrays(flat, 2)}
        if request.lines and self.broken != "model.lines":
            columns["line"] = pa.array([f"{len(text)}\n".encode() for text in texts], pa.binary())
        answers = payload_pb2.Payload(arrow=written(pa.RecordBatch.from_pydict(columns)).to_pybytes())
        return Answer(answers=payload_pb2.Predictions(rows=answers))

    def PredictStream(self, requests: Any, context: Any) -> Iterator[Any]:
        if self.broken == "model.stream_cancelled":
            whole: list[bool] = []
            context.add_callback(lambda: vars(self).update(open=not whole))
            for request in requests:
                time.sleep(0.01)
                yield self.Predict(request, context)
            whole.append(True)
            return
        answers = [self.Predict(request, context) for request in requests]
        yield from reversed(answers) if self.broken == "model.stream" else answers


def served(path: str, broken: str) -> grpc.Server:
    """The server, listening on a socket."""
    server = grpc.server(ThreadPoolExecutor(4))
    add_PluginServiceServicer_to_server(Identity(broken), server)  # type: ignore[abstract]
    add_ModelServiceServicer_to_server(Model(broken), server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server
