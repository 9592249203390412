"""The gate that every call passes: who calls, whether they may, how often; and where the server may listen."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from deepgen.v1.job_pb2 import Attempt, Job

from ..kernel.errors import UserError
from .limits import Rates
from .refusals import Refusal, abort
from .tokens import Caller, OneToken, Tokens

OPEN = ("/grpc.health.v1.Health/",)
"""Services that answer anybody: a probe has no token, and learns nothing but whether we serve."""

_caller: ContextVar[Caller] = ContextVar("caller")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def caller() -> Caller:
    """Who made the call that is being answered."""
    return _caller.get()


@dataclass(frozen=True)
class Tls:
    """The server's certificate and key, and the authority of its clients' certificates where they must have one."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC needs of it.

        Raises:
            UserError: a file that cannot be read or holds nothing of the kind.
        """
        key, certificate = _pem(self.key, "PRIVATE KEY"), _pem(self.certificate, "CERTIFICATE")
        authority = _pem(self.client_ca, "CERTIFICATE") if self.client_ca is not None else None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, lambda: b"")
        except ssl.SSLError as error:
            raise UserError(f"{self.key} is not the key of {self.certificate}: {error.reason or error}") from None
        return grpc.ssl_server_credentials([(key, certificate)], authority, authority is not None)


def check_address(address: str, tls: Tls | None) -> None:
    """Refuses to listen where others could listen in.

    Raises:
        UserError: an address beyond this machine without TLS, or none at all.
    """
    if address.startswith("unix:"):
        if tls is not None:
            raise UserError(f"{address} is a socket of this machine; leave --tls-cert and --tls-key out")
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UserError(f"address '{address}' is not HOST:PORT, such as 127.0.0.1:7450, nor unix:PATH")
    if tls is None and not _is_loopback(host.strip("[]")):
        raise UserError(
            f"{address} can be reached from other machines, so it needs TLS: give --tls-cert and --tls-key, or listen "
            f"on 127.0.0.1:{port}"
        )


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets a call in when its caller is known and not too fast, and turns what it raises into a status."""

    def __init__(
        self, tokens: Tokens | OneToken, rates: Rates, *, certificates: bool = False, anybody: Caller | None = None
    ) -> None:
        """Args:
        tokens: who may call.
        rates: how often.
        certificates: a client's certificate, which TLS has verified, may stand in for a token.
        anybody: who it is that calls without a token; None: such a call is refused.
        """
        self._anybody = anybody
        self._tokens = tokens
        self._rates = rates
        self._certificates = certificates
        self._guarded: dict[str, Handler] = {}
        """The methods there are, behind the gate."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Puts the gate before every method, once."""
        name = handler_call_details.method
        if name not in self._guarded:
            handler: Any = await continuation(handler_call_details)
            if handler is None:
                return None  # type: ignore[return-value]  # gRPC itself says that there is no such method
            self._guarded[name] = handler if name.startswith(OPEN) else self._guard(handler)
        return self._guarded[name]

    def _guard(self, handler: Any) -> Handler:
        method = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        sides = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if side else "unary" for side in sides)
        passage = self._stream(method) if handler.response_streaming else self._single(method)
        make: Callable[..., Handler] = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(passage, handler.request_deserializer, handler.response_serializer)

    def _single(self, method: Any) -> Any:
        async def passage(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                _caller.set(self._admit(context))
                return await method(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await abort(context, error)

        return passage

    def _stream(self, method: Any) -> Any:
        async def passage(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                found = self._admit(context)
                _caller.set(found)
                with self._rates.stream(found.user):
                    async for answer in method(request, context):
                        yield answer
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await abort(context, error)

        return passage

    def _admit(self, context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
        """Who calls: by token, else by certificate."""
        given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if given:
            scheme, _, token = str(given[0]).partition(" ")
            found = self._tokens.caller(token.strip()) if scheme.lower() == "bearer" and len(given) == 1 else None
            if found is None:
                raise Refusal("UNAUTHENTICATED", "the token is not known here, or it has expired", reason="TOKEN")
        elif self._certificates and (names := list(context.auth_context().get("x509_common_name", ()))):
            found = self._tokens.of_certificate(names[0].decode("utf-8", "replace"))
        elif self._anybody is not None:
            found = self._anybody
        else:
            raise Refusal(
                "UNAUTHENTICATED",
                "the call carries no token; send it as metadata, authorization: Bearer TOKEN",
                reason="NO_TOKEN",
            )
        self._rates.take(found.user)
        return found


def require(owner: str, name: str, deed: str, found: Caller | None = None) -> None:
    """Refuses a change by anybody but the owner, as long as they may change anything, and operators."""
    found = found or caller()
    if not found.may_change(owner):
        why = "viewers change nothing" if found.role == "viewer" else f"it belongs to {owner}"
        raise Refusal("PERMISSION_DENIED", f"{found.user} may not {deed} {name}: {why}", reason="NOT_OWNER")


def require_sight(owner: str, name: str, what: str) -> None:
    """Refuses what a job prints and makes to anybody but its owner and operators."""
    found = caller()
    if not found.may_look_into(owner):
        text = f"{found.user} may not read the {what} of {name}: it belongs to {owner}"
        raise Refusal("PERMISSION_DENIED", text, reason="NOT_OWNER")


def shown(job: Job) -> Job:
    """The job as the caller may see it: its state is everybody's, what it was given and what it learns are not."""
    if caller().may_look_into(job.owner):
        return job
    public = Job()
    public.CopyFrom(job)
    public.spec.overrides.clear()
    public.progress.values.clear()
    if public.spec.WhichOneof("source") == "inline_scene":
        public.spec.inline_scene = ""
    return public


def shown_attempt(attempt: Attempt, owner: str) -> Attempt:
    """The attempt as the caller may see it; how the executor finds it again is nobody's business."""
    public = Attempt()
    public.CopyFrom(attempt)
    public.ClearField("handle")
    if not caller().may_look_into(owner):
        del public.command[:]
        del public.evidence[:]
    return public


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _pem(path: Path, kind: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if f"{kind}-----".encode() not in content:
        raise UserError(f"{path}: holds no {kind.lower()} in PEM form")
    return content
