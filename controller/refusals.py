"""What a caller is told when a request is refused: gRPC status, one line, and google.rpc details with field paths."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ..kernel.errors import DeepgenError, UserError
from .jobs import Refused
from .store import StoreUnavailable

DOMAIN = "deepgen"
MOST_BYTES = 1200
"""Of a text: it goes out up to three times, partly with three bytes for one, and headers have 8 KiB."""

_log = logging.getLogger(__name__)


class Refusal(UserError):
    """A request that is refused.

    Attributes:
        code: the name of the gRPC status.
        reason: a word for programs, such as COMPACTED; by default the name of the status.
        fields: (path in the request, what is wrong with it) of each field at fault.
        facts: more for programs, such as the first sequence number that is left.
    """

    def __init__(
        self,
        code: str,
        text: str,
        *,
        reason: str = "",
        fields: Sequence[tuple[str, str]] = (),
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason or code
        self.fields = tuple(fields)
        self.facts = dict(facts or {})


def invalid(field: str, text: str) -> Refusal:
    """A field of the request is wrong."""
    return Refusal("INVALID_ARGUMENT", text, fields=[(field, text)])


def status(error: BaseException) -> Status:
    """The google.rpc.Status of an error. What is nobody's mistake is logged, and only a reference to it goes out."""
    if isinstance(error, Refusal):
        code, reason, fields, facts = error.code, error.reason, error.fields, error.facts
    elif isinstance(error, Refused):
        code, reason, facts = error.reason, error.reason, {}
        fields = ((error.field, str(error)),) if error.field else ()
    elif isinstance(error, UserError):
        code, reason, fields, facts = "INVALID_ARGUMENT", type(error).__name__, (), {}
    elif isinstance(error, StoreUnavailable):
        _log.error("the store cannot be written: %s", error)
        code, reason, fields, facts = "UNAVAILABLE", "STORE", (), {}
        error = DeepgenError("the record of jobs cannot be written now; nothing was changed; try again")
    else:
        reference = secrets.token_hex(4)
        _log.error("a request failed, reference %s", reference, exc_info=error)
        code, reason, fields, facts = "INTERNAL", "INTERNAL", (), {"reference": reference}
        error = DeepgenError(f"the server failed at this request; its log says more at {reference}")
    text = cut(str(error))
    details: list[Any] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=facts)]
    if fields:
        violations = [BadRequest.FieldViolation(field=cut(field, 200), description=text) for field, _ in fields[:1]]
        room = MOST_BYTES // 2
        for field, said in fields[1:]:
            room -= len(field.encode()) + len(said.encode())
            if room < 0:
                break
            violations.append(BadRequest.FieldViolation(field=field, description=said))
        details.append(BadRequest(field_violations=violations))
    packed = []
    for detail in details:
        packed.append(Packed())
        packed[-1].Pack(detail)
    return Status(code=grpc.StatusCode[code].value[0], message=text, details=packed)


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> NoReturn:
    """Ends the call with the status of an error."""
    made = rpc_status.to_status(status(error))
    await context.abort(made.code, made.details, made.trailing_metadata)
    raise AssertionError("abort always raises")


def cut(text: str, most: int = MOST_BYTES) -> str:
    """The text in one line of at most so many bytes of UTF-8."""
    line = " ".join(text.split())
    encoded = line.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= most else encoded[: most - 3].decode("utf-8", "ignore") + "…"
