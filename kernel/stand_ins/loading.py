"""Makes the plugins of a value of `plugin` known: those in a Python file, or those at an endpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .. import registry
from ..endpoints import is_endpoint


def load(reference: str) -> None:
    """Makes the plugins of a file or an endpoint known, once.

    Raises:
        PluginError: there is no such file or endpoint, or it cannot be loaded, reached or understood.
    """
    if not is_endpoint(reference):
        registry.load_file(reference)
    elif not registry.at_endpoint(reference):
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said by us, in one line
        from ..connections import connect  # gRPC, where a scene needs it
        from .classes import classes_at

        registry.add(reference, classes_at(connect(reference)))


def tell(say: Callable[[str], None]) -> None:
    """Has a person told of plugins in other processes that are lost, where the scene has any."""
    connections = sys.modules.get("deepgen.kernel.connections")
    if connections is not None:
        connections.listeners.append(say)


def let_go() -> None:
    """Ends the programs that this process has started for its plugins; they are started again when they are needed."""
    connections = sys.modules.get("deepgen.kernel.connections")
    if connections is not None:
        connections.end_all()
