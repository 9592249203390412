"""`deepgen plugin serve|check …`: serves plugins to runs in other processes, and checks those that are served."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernel.errors import DeepgenError, UserError, did_you_mean
from ...kernel.wire_features import DESCRIPTOR
from . import listen_options
from .arguments import Given, Option, help_of, read

if TYPE_CHECKING:
    from ..plugin_server.server import Server

OPTIONS = (
    Option("listen", "ADDRESS", "unix:/PATH, grpcs://HOST:PORT (TLS) or grpc://127.0.0.1:PORT; port 0 is any free one"),
    *listen_options.OPTIONS,
    Option("longest-call", "SECONDS", "a call that takes longer hangs, so that the plugin is started again; 1800"),
    Option("shared", "", "the ranks of a machine share one program; by default each rank starts its own"),
)
NEEDED = (
    'deepgen plugin serve needs an address: a scene starts it by itself with `plugin: ["exec:deepgen plugin serve '
    'FILE"]`; to start it by hand, give --listen unix:/PATH'
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen plugin --help` prints."""
    if "check" in arguments:
        from . import plugin_check

        return plugin_check.help_text(arguments)
    text = (
        "Serves the processors, metrics and outputters of Python files (or, as KIND:NAME, of what is installed) to\n"
        "runs in other processes, environments and machines. A scene names it by one of\n"
        '  plugin: ["exec:deepgen plugin serve FILE"]    the run starts it, and it ends with the run\n'
        '  plugin: ["unix:/PATH"]                        it was started with --listen unix:/PATH\n'
        '  plugin: ["grpcs://HOST:PORT"]                 on another machine'
    )
    return help_of("plugin serve FILE|KIND:NAME … [--listen ADDRESS]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Does what the first word says."""
    verbs: dict[str, Callable[[Sequence[str]], int]] = {"serve": _serve, "check": _check}
    if not arguments or arguments[0] not in verbs:
        verb = arguments[0] if arguments else ""
        near = did_you_mean(verb, verbs) or f"; there is {', '.join(verbs)}"
        missing = "deepgen plugin takes serve FILE or check FILE; see --help"
        raise UserError(f"deepgen plugin does not know '{verb}'{near}" if verb else missing)
    return verbs[arguments[0]](arguments[1:])


def _check(arguments: Sequence[str]) -> int:
    from . import plugin_check

    return plugin_check.main(arguments)


def _serve(arguments: Sequence[str]) -> int:
    given = read("plugin serve", arguments, OPTIONS)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a plugin prints is in the log before a crash
    words = given.only(1, None, "a file with plugins, or KIND:NAME")
    if (address := given.one("listen")) is not None:
        server, ready = _by_hand(given, words, address)
        server.run(ready)
        return 0
    if DESCRIPTOR not in os.environ:
        raise UserError(NEEDED)
    from ..plugin_server.child import Host

    host = Host()
    try:
        told = host.told()
        host.watch()
        server = _server(given, words, told.token)
        host.clean = server.clean
        server.listen(f"unix:{told.socket}")
    except Exception as error:
        if host.failed(error) and isinstance(error, DeepgenError):
            return error.exit_code  # the host says it
        raise
    server.run(host.ready)
    return 0


def _by_hand(given: Given, words: Sequence[str], address: str) -> tuple[Server, Callable[[], None]]:
    """A server that listens where the command line says, and what tells that it does."""
    place = listen_options.place_of(given, address)
    token = place.token()
    shares_memory = place.scheme == "unix" or (bool(token) and place.tls is None)
    server = _server(given, words, token, shares_memory=shares_memory)
    credentials = place.tls.credentials() if place.tls is not None else None
    shown = place.shown(server.listen(place.address, credentials))
    if place.is_open_to_all:
        print(listen_options.OPEN_TO_ALL, file=sys.stderr)
    named = shown.replace("//0.0.0.0:", "//HOST:").replace("//[::]:", "//HOST:")  # others need this machine's name
    return server, lambda: print(f"serving at {shown}; in a scene: plugin: [{named}]", flush=True)


def _server(given: Given, words: Sequence[str], token: str, *, shares_memory: bool = True) -> Server:
    from ..plugin_server.identity import Identity
    from ..plugin_server.offers import offered
    from ..plugin_server.server import Server
    from ..plugin_server.turns import LONGEST_CALL

    found, notes = offered(words)
    for note in notes:
        print(note, file=sys.stderr)
    name = Path(words[0]).stem if Path(words[0]).is_file() else words[0]
    identity, longest = Identity(name, given.has("shared")), given.number("longest-call", 1) or LONGEST_CALL
    return Server(found, identity, token=token, shares_memory=shares_memory, longest_call=longest)
