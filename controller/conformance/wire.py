"""A connection to a plugin in another process, call by call, with nothing sent again and nothing smoothed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from deepgen.v1.metric_service_pb2_grpc import MetricServiceStub
from deepgen.v1.model_service_pb2_grpc import ModelServiceStub
from deepgen.v1.outputter_service_pb2_grpc import OutputterServiceStub
from deepgen.v1.plugin_service_pb2 import ProbeRequest
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceStub
from deepgen.v1.processor_service_pb2_grpc import ProcessorServiceStub

from ...kernel.wire_features import LARGEST_MESSAGE
from .checks import Wrong, short

MIB = 1 << 20
Reply = TypeVar("Reply")


class Refused(Exception):
    """A call ended with a gRPC status."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code: str = error.code().name
        self.words: str = error.details() or ""
        super().__init__(f"{self.code}: {short(self.words)}")


class Wire:
    """The five services at one address."""

    def __init__(self, address: str, token: str = "", ca: bytes | None = None, secure: bool = False) -> None:
        """Args: ca: the certificates that may have signed the server's; None: those that the machine trusts."""
        options = [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
            ("grpc.max_send_message_length", -1),  # what is too large is for the plugin to refuse
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if secure:
            credentials = grpc.ssl_channel_credentials(ca)
            self.channel = grpc.secure_channel(address, credentials, options)
        else:
            self.channel = grpc.insecure_channel(address, options)
        self.token = token
        self.plugin = PluginServiceStub(self.channel)
        self.processor = ProcessorServiceStub(self.channel)
        self.metric = MetricServiceStub(self.channel)
        self.outputter = OutputterServiceStub(self.channel)
        self.model = ModelServiceStub(self.channel)

    def ask(self, method: Callable[..., Reply], request: Message | Iterable[Message], *, seconds: float = 60) -> Reply:
        """The answer to one call.

        Raises:
            Refused: it ended with a gRPC status.
        """
        try:
            return method(request, timeout=seconds, metadata=self.metadata())
        except grpc.RpcError as error:
            raise Refused(error) from None

    def stream(self, method: Callable[..., Any], request: Any, *, seconds: float = 120) -> list[Any]:
        """All answers of a call that gives several; raises like `ask`."""
        try:
            return list(method(request, timeout=seconds, metadata=self.metadata()))
        except grpc.RpcError as error:
            raise Refused(error) from None

    def begin(self, method: Callable[..., Any], request: Any, *, seconds: float = 120) -> Any:
        """The call under way: a future that can be cancelled."""
        return cast(Any, method).future(request, timeout=seconds, metadata=self.metadata())

    def refusal(self, method: Callable[..., Any], request: Any, *, token: str | None = None) -> Refused | None:
        """The status that a call ended with; None: it was answered."""
        metadata = self.metadata() if token is None else self.metadata(token)
        try:
            method(request, timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return Refused(error)
        return None

    def metadata(self, token: str | None = None) -> tuple[tuple[str, str], ...]:
        """What goes with each call; an empty token is left out."""
        given = self.token if token is None else token
        return (("authorization", f"Bearer {given}"),) if given else ()

    def still_well(self, after: str) -> None:
        """Refuses a plugin that does not answer any more.

        Raises:
            Wrong: it does not.
        """
        try:
            answer = self.ask(self.plugin.Probe, ProbeRequest(), seconds=20)
        except Refused as refused:
            raise Wrong(f"Probe after {after}", refused, "an answer: it is still there") from None
        if not answer.ready:
            raise Wrong(f"Probe after {after}", f"not ready: {answer.why}", "ready") from None

    def close(self) -> None:
        """Ends the connection."""
        self.channel.close()
