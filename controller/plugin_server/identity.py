"""The plugin service: who this is, what it offers, its instances, payloads put aside, and its end."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import grpc

from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceServicer

from ...kernel.contracts import Plugin
from ...kernel.descriptors import describe
from ...kernel.errors import NoPlugin
from ...kernel.wire_features import PARTS, SHARED_MEMORY, TOKENIZER, VERSIONS, common_version, missing
from . import host_memory
from .gate import Work
from .instances import Instances, Offered
from .payloads import Payloads
from .refusals import Refused, failure
from .turns import title


@dataclass(frozen=True)
class Identity:
    """How a server calls itself."""

    name: str
    """Such as "my_plugin"."""
    is_shared: bool = False
    """The ranks of a machine have one."""


class Plugins(PluginServiceServicer):
    """Answers for the server as a whole."""

    def __init__(
        self,
        identity: Identity,
        offered: Offered,
        instances: Instances,
        payloads: Payloads,
        work: Work,
        end: Callable[[], None],
    ) -> None:
        """`end` is called once the plugin is to end; it returns at once.

        Raises:
            PluginError: a plugin cannot say what it is.
        """
        self._identity = identity
        self._instances, self._payloads, self._work, self._end = instances, payloads, work, end
        self._described = wire.DescribeResponse(plugins=map(describe, offered.values()))

    def features(self) -> list[str]:
        """What this server can do beside what every one can."""
        found = [PARTS]
        if self._payloads.shares:
            found.append(SHARED_MEMORY)
        if importlib.util.find_spec("tokenizers") is not None:
            found.append(TOKENIZER)
        return found

    def Handshake(self, request: wire.HandshakeRequest, context: grpc.ServicerContext) -> wire.HandshakeResponse:
        """Agrees on a version and on features."""
        version_in_use = agreed(request.protocol_versions)
        features = self.features()
        for feature in missing(request.required_features, features):
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the host requires the feature '{feature}', which this plugin does not have",
            )
        probed = self._payloads.shares and request.HasField("probe")
        return wire.HandshakeResponse(
            protocol_version=version_in_use,
            plugin=f"{self._identity.name} (deepgen {_own_version()}, python {platform.python_version()})",
            features=features,
            nonce=request.nonce,
            probe=host_memory.probe(request.probe) if probed else b"",
            sharing=wire.HandshakeResponse.SHARED if self._identity.is_shared else wire.HandshakeResponse.PER_RANK,
        )

    def Describe(self, request: wire.DescribeRequest, context: grpc.ServicerContext) -> wire.DescribeResponse:
        """Each plugin that is offered."""
        return self._described

    def Configure(self, request: wire.ConfigureRequest, context: grpc.ServicerContext) -> wire.ConfigureResponse:
        """Makes an instance, unless it is there."""
        return self._instances.configure(request)

    def Release(self, request: wire.ReleaseRequest, context: grpc.ServicerContext) -> wire.ReleaseResponse:
        """Forgets an instance, if it is there."""
        self._instances.release(request.instance)
        return wire.ReleaseResponse()

    def Check(self, request: wire.CheckRequest, context: grpc.ServicerContext) -> wire.CheckResponse:
        """Refuses options that do not go with the scene."""
        from .scenes import absent_plugins, scene_of

        instance = self._instances.find(request.instance, Plugin)
        with instance.turn(context) as asked:
            try:
                notes = asked.check(scene_of(request.scene), tuple(request.splits))  # type: ignore[arg-type]
                return wire.CheckResponse(notes=notes)
            except (Exception, SystemExit) as error:
                absent = absent_plugins(request.scene)
                if isinstance(error, NoPlugin) and error.plugin in absent:
                    note = f"{title(asked)} could not check the scene where it runs, without {error.plugin}"
                    return wire.CheckResponse(notes=[note])
                return wire.CheckResponse(failure=failure(error))

    def Probe(self, request: wire.ProbeRequest, context: grpc.ServicerContext) -> wire.ProbeResponse:
        """Whether calls are taken."""
        trouble = self.trouble()
        return wire.ProbeResponse(ready=not trouble, why=trouble)

    def trouble(self) -> str:
        """Why no calls are taken; empty where they are."""
        return "it is ending" if self._work.is_ending else self._instances.turns.trouble()

    def Shutdown(self, request: wire.ShutdownRequest, context: grpc.ServicerContext) -> wire.ShutdownResponse:
        """Ends after what is worked on."""
        self._end()
        return wire.ShutdownResponse()

    def Put(self, requests: Iterator[wire.PutRequest], context: grpc.ServicerContext) -> wire.PutResponse:
        """Puts a payload aside."""
        return wire.PutResponse(key=self._payloads.put(requests))

    def Get(self, request: wire.GetRequest, context: grpc.ServicerContext) -> Iterator[wire.GetResponse]:
        """Gives a payload that was put aside."""
        return self._payloads.get(request.key)


def agreed(spoken: Sequence[int]) -> int:
    """The version that the host speaks, too.

    Raises:
        Refused: there is none; it says which there are.
    """
    found = common_version(VERSIONS, spoken)
    if found is None:
        words = f"version{'s' * (len(spoken) > 1)} {', '.join(map(str, spoken))}" if spoken else "no version"
        own = ", ".join(map(str, VERSIONS))
        message = f"the host speaks {words} of the protocol and this plugin {own}"
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, message)
    return found


def _own_version() -> str:
    try:
        return version("deepgen")
    except PackageNotFoundError:
        return "?"
