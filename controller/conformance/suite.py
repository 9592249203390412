"""The suite: which checks there are, and what came of each."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from ...kernel.errors import PluginError, RunError
from . import (
    cancelling,
    commits,
    concurrent,
    configuring,
    describing,
    drawing,
    handshake,
    hosted,
    leaks,
    living,
    messages,
    metrics,
    models,
    outputters,
    payloads,
    processors,
    spoiled,
)
from .case import Case
from .checks import CHECKS, Check, Skipped, Wrong, short
from .server import Server
from .subject import Failed, Unread
from .wire import Refused

MODULES = (
    handshake,
    messages,
    describing,
    configuring,
    payloads,
    spoiled,
    living,
    cancelling,
    concurrent,
    processors,
    drawing,
    metrics,
    outputters,
    commits,
    models,
    hosted,
    leaks,
)
"""Those that hold checks, in the order in which they are gone through."""
ORDERED = sorted(CHECKS, key=lambda check: [module.__name__ for module in MODULES].index(check.body.__module__))
_TOO_LARGE = "larger than max"
"""How gRPC itself speaks of a message; a limit of the plugin's own has other words."""


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    check: Check
    of: str
    """The plugin, as `metric acc`; empty for the server as a whole."""
    over: str
    """`in this process` or `over the wire`."""
    result: str
    """`passed`, `failed` or `skipped`."""
    reason: str = ""
    given: str = ""
    came: str = ""
    right: str = ""
    seconds: float = 0.0


def started(server: Server) -> Outcome:
    """Whether there is anything to check."""
    return _outcome(next(check for check in CHECKS if check.body is living.start), server, "", "over the wire")


def of_server(server: Server, only: str) -> Iterator[Outcome]:
    """The checks of a server that has started as a whole, and then of each of its plugins."""
    chosen = known(only)
    for check in ORDERED:
        if check.of == "server" and check.name in chosen and check.body is not living.start:
            yield _outcome(check, server, "", "over the wire")
    for descriptor in server.plugins:
        yield from of_case(server.case(descriptor), only, "over the wire")


def of_case(case: Case, only: str, over: str) -> Iterator[Outcome]:
    """The checks of a plugin."""
    chosen = known(only)
    for check in ORDERED:
        fits = check.of in ("plugin", case.kind) and check.name in chosen
        if not fits or (check.needs_wire and over != "over the wire"):
            continue
        if check.ability and check.ability not in case.descriptor.abilities:
            continue
        yield _outcome(check, case, case.title, over)
    with suppress(Refused, Wrong):
        case.released()


def _outcome(check: Check, what: Server | Case, of: str, over: str) -> Outcome:
    begin = time.monotonic()
    result, reason, words = "passed", "", ("", "", "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of numbers that are odd on purpose
            check.body(what)
    except Skipped as skipped:
        result, reason = "skipped", str(skipped)
    except Wrong as wrong:
        result, words = "failed", (wrong.given, wrong.came, wrong.right)
    except Refused as refused:
        if refused.code == "RESOURCE_EXHAUSTED" and _TOO_LARGE not in refused.words:
            result, reason = "skipped", f"it takes less at once: {refused.words}"
        else:
            result, words = "failed", ("a call that is right", str(refused), "an answer")
    except (Failed, Unread, RunError, PluginError) as refused:
        result, words = "failed", ("a call that is right", str(refused), "an answer")
    except grpc.RpcError as error:
        result, words = "failed", ("a call that is right", str(Refused(error)), "an answer")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an answer that nobody thought of, or a plugin in this process that would end it
        where = traceback.extract_tb(error.__traceback__)[-1]
        came = f"what cannot be read: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        result, words = "failed", ("a call that is right", short(came), "an answer as the protocol says")
    return Outcome(check, of, over, result, reason, *words, seconds=time.monotonic() - begin)


def known(prefix: str) -> Sequence[str]:
    """The ids of the checks that begin so; the one that is called so."""
    named = [check.name for check in ORDERED if check.name == prefix]
    return named or [check.name for check in ORDERED if check.name.startswith(prefix)]
