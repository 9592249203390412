"""Speaks to one plugin in another process over gRPC: shakes hands, calls, and says what became of a call."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc

from deepgen.v1 import (
    metric_service_pb2_grpc,
    model_service_pb2_grpc,
    outputter_service_pb2_grpc,
    plugin_service_pb2,
    plugin_service_pb2_grpc,
    processor_service_pb2_grpc,
)
from deepgen.v1.plugin_pb2 import PluginDescriptor

from .allocation import keep_freed_memory
from .endpoints import Endpoint
from .errors import PluginError
from .plugin_process import PluginProcess
from .shared_memory import Region
from .wire_features import (
    LARGEST_MESSAGE,
    PARTS,
    PIECE,
    SHARED_MEMORY,
    TOKENIZER,
    VERSIONS,
    missing,
)

SECONDS_TO_ANSWER = 60.0
"""For everything but the work itself, which may take as long as it takes, while the plugin answers probes."""
SECONDS_BETWEEN_PROBES = 30.0
PROBES = 2
"""After so many without an answer, the plugin is taken for hung."""
STUBS: dict[str, Any] = {
    "plugin": plugin_service_pb2_grpc.PluginServiceStub,
    "processor": processor_service_pb2_grpc.ProcessorServiceStub,
    "metric": metric_service_pb2_grpc.MetricServiceStub,
    "outputter": outputter_service_pb2_grpc.OutputterServiceStub,
    "model": model_service_pb2_grpc.ModelServiceStub,
}
_OPTIONS = [
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    # A whole batch is on its way before the first of it is acknowledged.
    ("grpc.http2.lookahead_bytes", 4 << 20),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.max_frame_size", 1 << 20),
    ("grpc.use_local_subchannel_pool", 1),  # a plugin that was started again is another one, without a bad name
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20_000),  # how long one attempt to connect may take: the network may be slow
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Lost(Exception):
    """The plugin is gone, or does not answer; the words are the cause."""


class Link:
    """A plugin that has shaken hands. It is used until it is lost, and then another takes its place."""

    def __init__(self, endpoint: Endpoint, address: str, token: str, process: PluginProcess | None) -> None:
        keep_freed_memory()
        self.endpoint = endpoint
        self.process = process
        options = [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if endpoint.is_local else _OPTIONS
        if endpoint.scheme == "grpcs":
            credentials = grpc.ssl_channel_credentials(endpoint.authority())
            self._channel = grpc.secure_channel(address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._stubs = {name: stub(self._channel) for name, stub in STUBS.items()}
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._busy: dict[int, float] = {}
        self._closed = threading.Event()
        self._hangs = ""
        """What was wrong with it when it was given up."""
        threading.Thread(target=self._watch, name="plugin watch", daemon=True).start()
        try:
            self._shake_hands()
            self.plugins: Sequence[PluginDescriptor] = self.call(
                "plugin", "Describe", plugin_service_pb2.DescribeRequest(), SECONDS_TO_ANSWER
            ).plugins
        except BaseException:
            self.close()
            raise

    def _shake_hands(self) -> None:
        region, nonce, secret = Region(), secrets.token_bytes(16), secrets.token_bytes(16)
        request = plugin_service_pb2.HandshakeRequest(
            protocol_versions=VERSIONS,
            host=f"deepgen {version('deepgen')}",
            features=[SHARED_MEMORY, PARTS, TOKENIZER],
            required_features=[PARTS],
            nonce=nonce,
            probe=region.write(secret) if self.endpoint.is_local else None,
        )
        answer = self.call("plugin", "Handshake", request, SECONDS_TO_ANSWER)
        region.close()
        where = f"--plugin {self.endpoint.text}"
        if answer.protocol_version not in VERSIONS:
            raise PluginError(
                f"{where}: speaks version {answer.protocol_version} of the protocol; this DeepGen speaks "
                f"{', '.join(map(str, VERSIONS))}"
            )
        if answer.nonce != nonce:
            raise PluginError(f"{where}: gave another nonce than it got; it is no plugin, or a broken one")
        if lacking := missing(answer.required_features, [SHARED_MEMORY, PARTS, TOKENIZER]):
            raise PluginError(f"{where}: requires {', '.join(lacking)}, which this DeepGen does not have; update it")
        if lacking := missing([PARTS], answer.features):
            raise PluginError(f"{where}: lacks the feature {', '.join(lacking)}, which every plugin has")
        self.shares_memory = SHARED_MEMORY in answer.features and answer.probe == secret
        self.takes_tokenizer = TOKENIZER in answer.features
        self.is_shared = answer.sharing == plugin_service_pb2.HandshakeResponse.SHARED

    def call(self, service: str, method: str, request: Any, seconds: float | None = None) -> Any:
        """One call.

        Raises:
            Lost: the plugin is gone. PluginError: it refused the call.
        """
        with self._asking(seconds is None):
            return getattr(self._stubs[service], method)(request, timeout=seconds, metadata=self._metadata)

    @contextmanager
    def _asking(self, may_take_long: bool = True) -> Iterator[None]:
        """Says what went wrong with a call; one that may take long is watched meanwhile."""
        me = threading.get_ident()
        if may_take_long:
            self._busy[me] = time.monotonic()
        try:
            yield
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed by another thread
            raise self._meaning(error) from None
        finally:
            self._busy.pop(me, None)

    def _watch(self) -> None:
        """Ends a plugin that hangs: one that answers neither a call nor, meanwhile, a few probes, or says so itself."""
        missed, why = 0, ""
        while not self._closed.wait(SECONDS_BETWEEN_PROBES):
            since = min(self._busy.copy().values(), default=None)
            if since is None or time.monotonic() - since < SECONDS_BETWEEN_PROBES:
                missed = 0
                continue
            try:
                answer = self.call("plugin", "Probe", plugin_service_pb2.ProbeRequest(), SECONDS_TO_ANSWER)
                missed, why = (0, "") if answer.ready else (PROBES, answer.why)
            except (Lost, PluginError):
                missed += 1
            if missed >= PROBES:
                self._hangs = why or "it did not answer"
                self.close()

    def _meaning(self, error: Any) -> Exception:
        by = "itself: " if self.process is not None else ""
        if self._hangs or not isinstance(error, grpc.RpcError):
            return Lost(f"{by}{self._hangs or 'it did not answer'}")
        call: Any = error
        code, details = call.code(), call.details() or ""
        gone = self.process is not None and not self.process.is_running
        if gone or code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return Lost(self.process.cause() if self.process is not None else unreachable(self.endpoint, details))
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return Lost(f"{by}it did not answer in time")
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than" not in details:  # gRPC's own word for messages
            return Busy(details)
        if code == grpc.StatusCode.NOT_FOUND:
            return NotConfigured(details)
        if code == grpc.StatusCode.UNAUTHENTICATED and self.process is None:
            return PluginError(f"--plugin {self.endpoint.text}: {unauthenticated(self.endpoint, bool(self._metadata))}")
        return PluginError(f"--plugin {self.endpoint.text}: {code.name}: {details}")

    def put(self, data: Any) -> str:
        """Puts a payload aside with the plugin, in pieces; raises like `call`."""
        pieces = (
            plugin_service_pb2.PutRequest(data=bytes(data[begin : begin + PIECE]))
            for begin in range(0, len(data), PIECE)
        )
        key: str = self.call("plugin", "Put", pieces, None).key
        return key

    def get(self, key: str) -> bytes:
        """Fetches a payload that the plugin has put aside; raises like `call`."""
        request = plugin_service_pb2.GetRequest(key=key)
        with self._asking():
            return b"".join(part.data for part in self._stubs["plugin"].Get(request, metadata=self._metadata))

    def stream(self, service: str, method: str, requests: Any) -> Iterator[Any]:
        """The answers to a call of many requests; raises like `call`."""
        with self._asking():
            yield from getattr(self._stubs[service], method)(requests, metadata=self._metadata)

    def end(self) -> None:
        """Asks the program that this process has started to end, and sees to it."""
        if self.process is not None:
            try:
                self.call("plugin", "Shutdown", plugin_service_pb2.ShutdownRequest(), 2.0)
            except (Lost, PluginError):
                self.process.kill()
            self.process.end()
        self.close()

    def close(self) -> None:
        """Ends the connection, and what was started for it at once."""
        self._closed.set()
        self._channel.close()
        if self.process is not None:
            self.process.kill()


class Busy(Exception):
    """The plugin, mostly a server, has too much to do; the words are its own."""


def unreachable(endpoint: Endpoint, details: str) -> str:
    """What gRPC says of a server that cannot be reached, in a few words."""
    if "WRONG_VERSION_NUMBER" in details:
        return "it has no TLS"
    if "Hostname Verification" in details:
        return f"its certificate is not of {endpoint.address.rpartition(':')[0]}"
    if "create security handshaker" in details:
        return f"{endpoint.ca} holds no certificates"
    if "handshake failed" in details:
        signer = endpoint.ca if endpoint.ca is not None else "anybody that this machine trusts"
        return f"its certificate is not signed by {signer}; name the file of who has signed it by '?ca=FILE'"
    if endpoint.scheme == "grpc" and "Socket closed" in details:
        return "it closed the connection; if it has TLS, write grpcs://"
    place = Path(endpoint.text.partition(":")[2])
    if endpoint.scheme == "unix" and place.exists() and not place.is_socket():
        return f"that is a {'folder' if place.is_dir() else 'file'}, and no socket"
    if "Connection refused" in details:
        return "nothing listens there (connection refused)"
    if endpoint.scheme == "unix" and "No such file or directory" in details:
        return "there is no such socket; is the server running?"
    if "lookup" in details or "DNS resolution failed" in details:
        return f"the name {endpoint.address.rpartition(':')[0]} cannot be resolved"
    return details.rpartition("error: ")[2]


def unauthenticated(endpoint: Endpoint, has_token: bool) -> str:
    """What is wrong with the token that a server refused, and what would be right."""
    if not has_token:
        if endpoint.scheme == "unix":
            return "it wants a token; set DEEPGEN_PLUGIN_TOKEN_FILE to the file that holds it"
        return "it wants a token; name the file that holds it by '?token_file=FILE', or set DEEPGEN_PLUGIN_TOKEN_FILE"
    return f"the token in {endpoint.token_file} is not that of this plugin" if endpoint.token_file else "wrong token"


class NotConfigured(PluginError):
    """The plugin does not know the instance: it was started again."""
