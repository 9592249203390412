"""The plugin service of a model server: who it is, its names, payloads put aside, and its end."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version

from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceServicer

from ...kernel import wire_features
from ..plugin_server import host_memory
from ..plugin_server.identity import agreed
from ..plugin_server.payloads import Payloads
from ..refusals import Refusal, invalid
from .asking import Context
from .instances import Instances
from .model import ServedModel
from .services import translated

MOST_PUT = 1 << 30
"""Bytes of a payload that is put aside."""


class Identity(PluginServiceServicer):
    """Answers for the server as a whole."""

    def __init__(self, model: ServedModel, instances: Instances, payloads: Payloads, end: Callable[[], None]) -> None:
        """`end` is called when the server is to end; it returns at once."""
        self._model, self._instances, self._payloads, self._end = model, instances, payloads, end
        self.stopping = False
        """No more calls are taken."""
        own = version("deepgen")
        self._name = f"{model.name} (deepgen {own}, python {platform.python_version()})"
        self._described = wire.DescribeResponse(plugins=model.descriptors(own))
        self._features = [wire_features.PARTS, wire_features.LINES]
        if payloads.shares:
            self._features.append(wire_features.SHARED_MEMORY)

    async def Handshake(self, request: wire.HandshakeRequest, context: Context) -> wire.HandshakeResponse:
        """Agrees on a version and on features."""
        with translated():
            spoken = agreed(request.protocol_versions)
        if missing := wire_features.missing(request.required_features, self._features):
            text = f"the host requires the feature '{missing[0]}', which this plugin does not have"
            raise Refusal("FAILED_PRECONDITION", text)
        probed = self._payloads.shares and request.HasField("probe")
        return wire.HandshakeResponse(
            protocol_version=spoken,
            plugin=self._name,
            features=self._features,
            nonce=request.nonce,
            probe=host_memory.probe(request.probe) if probed else b"",
            sharing=wire.HandshakeResponse.SHARED,
        )

    async def Describe(self, request: wire.DescribeRequest, context: Context) -> wire.DescribeResponse:
        """The model, and the processor that it can be."""
        return self._described

    async def Configure(self, request: wire.ConfigureRequest, context: Context) -> wire.ConfigureResponse:
        """Takes a name down."""
        return self._instances.configure(request)

    async def Release(self, request: wire.ReleaseRequest, context: Context) -> wire.ReleaseResponse:
        """Forgets a name."""
        self._instances.release(request.instance)
        return wire.ReleaseResponse()

    async def Check(self, request: wire.CheckRequest, context: Context) -> wire.CheckResponse:
        """Has nothing to say: there are no options."""
        self._instances.known(request.instance)
        return wire.CheckResponse()

    async def Probe(self, request: wire.ProbeRequest, context: Context) -> wire.ProbeResponse:
        """Whether calls are answered."""
        why = "it is stopping" if self.stopping else self._model.predictor.gone
        return wire.ProbeResponse(ready=not why, why=why)

    async def Shutdown(self, request: wire.ShutdownRequest, context: Context) -> wire.ShutdownResponse:
        """Ends after what waits."""
        self._end()
        return wire.ShutdownResponse()

    async def Put(self, requests: AsyncIterator[wire.PutRequest], context: Context) -> wire.PutResponse:
        """Puts a payload aside."""
        pieces: list[wire.PutRequest] = []
        size = 0
        async for piece in requests:
            size += len(piece.data)
            if len(piece.data) > wire_features.PIECE:
                raise invalid("data", f"a piece has {len(piece.data)} bytes; send at most {wire_features.PIECE}")
            if size > MOST_PUT:
                raise Refusal("RESOURCE_EXHAUSTED", f"the payload has more than {MOST_PUT} bytes; send fewer rows")
            pieces.append(piece)
        with translated():
            return wire.PutResponse(key=await asyncio.to_thread(self._payloads.put, pieces))

    async def Get(self, request: wire.GetRequest, context: Context) -> AsyncIterator[wire.GetResponse]:
        """Gives a payload that was put aside."""
        with translated():
            for piece in self._payloads.get(request.key):
                yield piece
