"""`deepgen serve-model FOLDER`: answers rows of many clients over gRPC with the model of a finished run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...kernel.errors import UserError
from ...kernel.wire_features import DESCRIPTOR
from . import listen_options
from .arguments import Given, Option, help_of, read
from .display import note

if TYPE_CHECKING:
    from ..model_server.model import ServedModel
    from ..model_server.server import Settings

DEFAULT = "grpc://127.0.0.1:7451"
OPTIONS = (
    Option("listen", "ADDRESS", f"grpc://127.0.0.1:PORT, unix:/PATH or grpcs://HOST:PORT; by default {DEFAULT}"),
    Option("name", "NAME", "what the model is called; by default as its scene"),
    *listen_options.OPTIONS,
    Option("batch-window", "MS", "milliseconds that rows wait for company at an idle model; by default 3"),
    Option("max-batch", "ROWS", "rows that the model is given at once; by default 128"),
    Option("max-waiting", "ROWS", "rows that may wait; more are refused for now; by default 16384"),
    Option("metrics-port", "PORT", "http://127.0.0.1:PORT/metrics for Prometheus; by default none, 0 is any"),
)

NO_PLUGIN = (
    "deepgen serve-model is a server that many runs share, and no run starts it: start it by hand with --listen "
    "unix:/PATH, and write plugin: [unix:/PATH]"
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen serve-model --help` prints."""
    text = (
        "FOLDER is a run folder or the model folder in it. Rows of all clients are answered in common batches, until\n"
        "Ctrl-C or SIGTERM; what waits then is answered. Settings of the scene go over those of the folder, as with\n"
        "`deepgen predict`; `deepgen run FOLDER --help` lists them. docs/serving.md shows how it is asked."
    )
    return help_of("serve-model FOLDER [--listen ADDRESS] [--name value …]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Serves; a run that would start it as a plugin is told what to write instead."""
    if DESCRIPTOR in os.environ:
        from ..plugin_server.child import Host

        Host().failed(UserError(NO_PLUGIN))
        return UserError.exit_code
    given = read("serve-model", arguments, OPTIONS, strangers=True)
    folder = given.only(1, 1, "the folder of a finished run")[0]
    place = listen_options.place_of(given, given.one("listen") or DEFAULT)
    settings = _settings(given, place)
    from ..model_server.serving import serve

    return serve(folder, given.rest, given.one("name") or "", settings, lambda *told: _ready(place, settings, *told))


def _settings(given: Given, place: listen_options.Place) -> Settings:
    """Where and how it serves."""
    from ..model_server.batching import Bounds
    from ..model_server.server import Settings

    known = Bounds()
    return Settings(
        address=place.address,
        tls=place.tls,
        token=place.token(),
        bounds=Bounds(
            window=_milliseconds(given, known.window),
            max_batch=given.number("max-batch", 1) or known.max_batch,
            max_waiting=given.number("max-waiting", 1) or known.max_waiting,
        ),
        metrics_port=given.number("metrics-port"),
    )


def _milliseconds(given: Given, default: float) -> float:
    text = given.one("batch-window")
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 60_000:
        raise UserError(f"--batch-window {text} is no number of milliseconds from 0 to 60000")
    return found / 1000


def _ready(place: listen_options.Place, settings: Settings, model: ServedModel, address: str, metrics: str) -> None:
    """The lines that say that it answers, to what and with what."""
    print(f"{model.name} is served at {place.shown(address)}; Ctrl-C ends", flush=True)
    classes = f": {', '.join(model.class_names)}" if model.class_names else ""
    note(f"  columns  {', '.join(model.columns)}")
    note(f"  answers  {model.problem.replace('_', ' ')}{classes}")
    note(f"  batches  at most {settings.bounds.max_batch} rows, after at most {settings.bounds.window * 1000:g} ms")
    if metrics:
        note(f"  metrics  {metrics}")
    if place.is_open_to_all:
        note(listen_options.OPEN_TO_ALL)
