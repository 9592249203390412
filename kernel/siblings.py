"""Processes of this program that work for another one of it, which asks them through a pipe; they end when it ends.

What goes through the pipes is pickled: both ends are this program, and nobody else holds one. A pipe that ends tells of
a death on either side. They are started afresh and not forked, which torch's threads would not survive, and have a
session of their own, as Ctrl-C is for the other one to answer.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, NoReturn, cast

from . import errors
from .errors import DeepgenError, RunError

ENDED = (OSError, EOFError, pickle.UnpicklingError)
"""What sending and receiving raise when the other one is gone."""


@dataclass(frozen=True)
class Failed:
    """An exception of the other process, as it is sent."""

    kind: str
    message: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """The one that is being handled."""
        known = isinstance(error, DeepgenError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        kinds = (kind.__name__ for kind in type(error).__mro__ if known and kind.__module__ == errors.__name__)
        return cls(next(kinds, RunError.__name__), message, traceback.format_exc())

    def throw(self) -> NoReturn:
        """Raises it here: an error of this program as what it is, any other as a RunError."""
        raise getattr(errors, self.kind, RunError)(self.message) from _There(self.trace)


class _There(Exception):
    """The traceback of the other process, which a traceback of this one then shows as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def start(work: Callable[[], None]) -> subprocess.Popen[bytes]:
    """A process that does this: a function of a module, which begins with `opened`."""
    # not `-m`, by which the classes of the module would be others there than here; and modules come from where they
    # come from here: `-c` by itself would look for them in the working directory first
    path = f"import sys; sys.path[:] = {[str(place) for place in sys.path]!r}"
    command = [sys.executable, "-P", "-c", f"{path}; from {work.__module__} import {work.__name__} as work; work()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


def send(item: Any, pipe: IO[bytes] | None) -> None:
    """Sends something; see ENDED. Of what cannot be pickled, no part is sent."""
    assert pipe is not None
    pipe.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def receive(pipe: IO[bytes] | None) -> Any:
    """Waits for something; see ENDED."""
    return pickle.load(cast(IO[bytes], pipe))


def cause(process: subprocess.Popen[bytes]) -> str:
    """What has ended it, as in "was ended by …"."""
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return "itself: it closed its output; a plugin must leave the file descriptors alone"
    if code >= 0:
        return f"itself, with exit code {code}"
    hint = "; the machine may be out of memory" if code == -signal.SIGKILL else ""
    return signal.Signals(-code).name + hint


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends it at once."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what could not be sent to it
            pipe.close()  # type: ignore[union-attr]


def opened() -> tuple[IO[bytes], IO[bytes]]:
    """In the process that was started: where requests come from, and where answers go. It ends with whoever asks.

    Signals to end are for the other one, too, which may have requests to finish: a service manager sends them to all.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: None)  # not SIG_IGN, which programs of plugins would inherit
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # what a plugin or a program of its reads is no request
    os.close(nothing)
    os.dup2(2, 1)  # what a plugin prints is no answer
    cast(Any, sys.stdout).reconfigure(line_buffering=True)  # and is seen, also when this process is killed
    threading.Thread(target=_end_with_the_other, args=(requests.fileno(),), daemon=True).start()
    return requests, answers


def _end_with_the_other(requests: int) -> None:
    """Ends this process when nobody holds the other end of its requests, whatever it is working on."""
    poll = select.poll()
    poll.register(requests, 0)
    poll.poll()
    os._exit(0)
