"""What a refused or failed call means to the person who made it: gRPC status → UserError or RunError of one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from ..kernel.errors import DeepgenError, RunError, UserError

_DETAILS = "grpc-status-details-bin"
_OVERRIDE = re.compile(r"(?:job\.)?spec\.overrides\[[\"']?([^\]\"']+)[\"']?\]")
_USERS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.OUT_OF_RANGE,
)
"""What the caller can mend; everything else is the server's or the network's."""


class Refused(UserError):
    """A request that the controller refuses.

    Attributes:
        reason: a word for programs, such as COMPACTED.
        facts: more for programs, such as the first sequence number that is on record.
    """

    reason = ""
    facts: Mapping[str, str] = MappingProxyType({})


class NotFound(Refused):
    """There is no such thing, or the caller may not know of it."""


class Precondition(Refused):
    """The state of the job does not allow it, or the job has changed meanwhile."""


class Unreachable(UserError):
    """No controller answers at the address."""


def translate(error: grpc.RpcError, address: str) -> DeepgenError:
    """The error that a command ends with."""
    code, text = error.code(), " ".join((error.details() or "").split())
    if code is grpc.StatusCode.UNAVAILABLE:
        return RunError(text) if _info(error).reason else Unreachable(unreachable(address, text))
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return UserError(
            f"{text or 'the token is not accepted'}; the token is read from --token-file (DEEPGEN_TOKEN_FILE)"
        )
    if code not in _USERS:
        return RunError(f"the controller at {address} failed ({_word(code)}): {text or 'it gives no reason'}")
    kind = {
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.FAILED_PRECONDITION: Precondition,
        grpc.StatusCode.ABORTED: Precondition,
    }.get(code, Refused)
    refused = kind(_joined(text, error) or _word(code))
    info = _info(error)
    refused.reason, refused.facts = info.reason, dict(info.metadata)
    return refused


def unreachable(address: str, text: str = "") -> str:
    """That nobody answers, with what else is known: a certificate that is refused looks like nobody, too."""
    if any(word in text.lower() for word in ("ssl", "tls", "certificate", "handshake")):
        return f"no secure connection to {address}: {text}; --ca names the certificate of its authority"
    from ..kernel.mlflow_store import answers

    if not address.startswith("unix:") and answers(f"http://{address}"):
        return (
            f"who listens at {address} does not answer us; a controller with TLS wants --ca, "
            "and one whose clients have certificates --cert and --key too"
        )
    return f"no controller is running at {address}; start one with `deepgen serve`"


def _info(error: grpc.RpcError) -> ErrorInfo:
    return next((detail for detail in _details(error) if isinstance(detail, ErrorInfo)), ErrorInfo())


def _joined(text: str, error: grpc.RpcError) -> str:
    """The message and the violated fields it does not tell of."""
    said = [text] if text else []
    for detail in _details(error):
        for violation in detail.field_violations if isinstance(detail, BadRequest) else ():
            description = " ".join(violation.description.split())
            if not description or any(description in part for part in said):
                continue
            setting = _OVERRIDE.fullmatch(violation.field)
            place = f"--{setting[1]}" if setting else violation.field
            said.append(description if not place or description.startswith(place) else f"{place}: {description}")
    return "; ".join(said)


def _details(error: grpc.RpcError) -> list[BadRequest | ErrorInfo]:
    found: list[BadRequest | ErrorInfo] = []
    for entry in error.trailing_metadata() or ():
        if entry.key != _DETAILS or not isinstance(entry.value, bytes):
            continue
        try:
            details = Status.FromString(entry.value).details
        except DecodeError:
            continue
        for packed in details:
            for kind in (BadRequest, ErrorInfo):
                message = kind()
                if packed.Unpack(message):
                    found.append(message)
    return found


def _word(code: grpc.StatusCode) -> str:
    return code.name.lower().replace("_", " ")
