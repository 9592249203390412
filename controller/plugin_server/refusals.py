"""What a caller is told when a call goes wrong: a status for a mistake in the protocol, a failure of the plugin."""

from __future__ import annotations

import traceback

import grpc

from deepgen.v1 import payload_pb2

from ...kernel.errors import DataError, DeepgenError, PluginError, RunError, SceneError, UserError

KINDS: tuple[type[DeepgenError], ...] = (SceneError, DataError, PluginError, RunError)
"""The errors that keep their meaning on the way; those that come from them count as they do."""
LONGEST = 16_384
"""Characters of what is said: an error may quote all of a text that is too large for a message."""


class Refused(Exception):
    """A call that breaks the protocol; it is answered with this status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> Refused:
    """The request is wrong in itself."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> Refused:
    """It names something that is not there (any more)."""
    return Refused(grpc.StatusCode.NOT_FOUND, message)


def failure(error: BaseException) -> payload_pb2.Failure:
    """What a plugin raised, as a message."""
    kind = next((known.__name__ for known in KINDS if isinstance(error, known)), type(error).__name__)
    if kind == UserError.__name__:
        kind = PluginError.__name__
    trace = "".join(traceback.format_exception(error))
    return payload_pb2.Failure(
        kind=kind, message=_text(" ".join(str(error).split())[:LONGEST]), trace=_text(trace[-LONGEST:])
    )


def _text(text: str) -> str:
    """Without what no message can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
