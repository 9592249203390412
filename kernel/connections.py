"""Connections to plugins in other processes: one for each endpoint, which starts its program again when it is lost."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .endpoints import at_socket, parse
from .errors import PluginError, RunError
from .plugin_process import PluginProcess
from .remote import Link, Lost
from .sharing import Meeting

PAUSES = (0.0, 0.0, 0.1, 0.2, 0.5, 1.0)
"""Seconds before a plugin is started again: after no crash, one, two and so on; a success starts over."""
STARTS = 3
"""So often a program is started before it is given up."""
SECONDS_TO_REACH = 30.0
"""How long a server that runs by itself may be away."""
_WAITED_FOR = f"it is waited for, up to {SECONDS_TO_REACH:g} s"
listeners: list[Callable[[str], None]] = []
"""Told of a plugin that was lost, for a person; the log is told by itself."""


class Connection:
    """An endpoint. Threads may share it."""

    def __init__(self, text: str, *, own: bool = False) -> None:
        """Reaches it, or starts its program; with `own`, one that no other rank shares.

        Raises:
            PluginError: it is not there, or speaks another protocol.
        """
        self.endpoint = parse(text)
        self.instances: weakref.WeakSet[Any] = weakref.WeakSet()
        """What was configured there, to be released at the end: a server lives on."""
        self._own = own
        self._lock = threading.RLock()
        self._crashes = 0
        try:
            self._link: Link | None = self._reach()
        except Lost as error:
            if self.endpoint.scheme == "exec":
                raise PluginError(f"--plugin {text}: was ended by {error}") from None
            raise PluginError(f"--plugin {text}: cannot be reached: {error}") from None
        self._offers = _offers(self._link)

    @property
    def can_start(self) -> bool:
        """Whether its program is started here, so that it can be started again."""
        return self.endpoint.scheme == "exec"

    @property
    def link(self) -> Link:
        """The plugin, which is started again where it is gone.

        Raises:
            RunError: it cannot be reached, or started, any more, or is another one.
        """
        with self._lock:
            if self._link is None:
                link = self._again()
                if other := sorted(self._offers ^ _offers(link)):
                    link.end()
                    raise RunError(
                        f"--plugin {self.endpoint.text}: {other[0][0]} is another one than before; run it again from "
                        "the beginning"
                    )
                self._link = link
            return self._link

    def _again(self) -> Link:
        text = self.endpoint.text
        if self.endpoint.scheme == "exec":
            for attempt in range(STARTS):
                time.sleep(PAUSES[min(self._crashes + attempt, len(PAUSES) - 1)])
                try:
                    return self._reach()
                except (Lost, PluginError) as error:
                    why = str(error).removeprefix(f"--plugin {text}: ")
            raise RunError(f"--plugin {text}: cannot be started again: {why}")
        until = time.monotonic() + SECONDS_TO_REACH
        while True:
            try:
                return self._reach()
            except (Lost, PluginError) as error:
                if time.monotonic() > until:
                    raise RunError(
                        f"--plugin {text}: could not be reached for {SECONDS_TO_REACH:g} s: {error}"
                    ) from None
            time.sleep(0.2)

    def lost(self, link: Link, why: object) -> None:
        """Says that a link does not work any more; the next `link` is another. The log says so, too."""
        with self._lock:
            if self._link is link:
                self._link = None
                self._crashes += 1
                link.close()
                how, then = ("was ended by", "it is started again") if self.can_start else ("was lost:", _WAITED_FOR)
                text = f"plugin {self.endpoint.text} {how} {why}; {then}"
                print(text, file=sys.stderr)
                if self._crashes == 1 and not self._own:  # what comes of it is said at the end
                    for listener in listeners:
                        listener(text)

    def succeeded(self) -> None:
        """Says that a call was answered."""
        self._crashes = 0

    def _reach(self) -> Link:
        endpoint = self.endpoint
        if endpoint.scheme != "exec":
            return Link(endpoint, endpoint.address, endpoint.token(), None)
        meeting = Meeting(endpoint.text)
        if meeting.alone or self._own:
            return self._start(None)
        with meeting.first():
            if (shared := meeting.found()) is not None:
                try:
                    return Link(endpoint, at_socket(shared.socket), shared.token, None)
                except (Lost, PluginError):
                    pass  # the rank that started it has ended
            link = self._start(meeting.folder)
            if link.is_shared and link.process is not None:
                meeting.leave(link.process.shared)
            return link

    def _start(self, meeting: Path | None) -> Link:
        process = PluginProcess(self.endpoint, meeting)
        shared = process.shared
        return Link(self.endpoint, at_socket(shared.socket), shared.token, process)

    def end(self) -> None:
        """Ends the plugin where this process has started it, and the connection."""
        with self._lock:
            if self._link is not None:
                if self._link.process is None:
                    for instance in list(self.instances):
                        instance.release()
                self._link.end()
            self._link = None


def _offers(link: Link) -> set[tuple[str, str]]:
    """What each plugin is called, and which it is."""
    return {(plugin.name, f"{plugin.kind} {plugin.version} {plugin.digest}") for plugin in link.plugins}


_connections: dict[str, Connection] = {}
_owner = os.getpid()
_lock = threading.Lock()


def connect(text: str) -> Connection:
    """The connection to an endpoint, one for this process; raises like Connection."""
    global _owner
    with _lock:
        if _owner != os.getpid():  # gRPC's threads and sockets are the other process's
            _connections.clear()
            _owner = os.getpid()
        if text not in _connections:
            _connections[text] = Connection(text)
        return _connections[text]


@atexit.register
def end_all() -> None:
    """Ends every connection, and the programs that were started for them; what is needed again is started again."""
    with _lock:
        if _owner == os.getpid():
            for connection in _connections.values():
                connection.end()
