"""`deepgen serve-model FOLDER`: answers rows of many clients over gRPC with the model of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...kernel.errors import UserError
from .arguments import Given, Option, help_of, read
from .display import note

if TYPE_CHECKING:
    from ..model_server.model import ServedModel
    from ..model_server.server import Settings

DEFAULT = "grpc://127.0.0.1:7451"
OPTIONS = (
    Option("listen", "ADDRESS", f"grpc://127.0.0.1:PORT, unix:/PATH or grpcs://HOST:PORT; by default {DEFAULT}"),
    Option("name", "NAME", "what the model is called; by default as its scene"),
    Option("tls-cert", "FILE", "certificate; needed on an address that other machines reach"),
    Option("tls-key", "FILE", "the key of --tls-cert"),
    Option("token-file", "FILE", "holds the token that every call must bring; needed with TLS"),
    Option("batch-window", "MS", "milliseconds that rows wait for company at an idle model; by default 3"),
    Option("max-batch", "ROWS", "rows that the model is given at once; by default 128"),
    Option("max-waiting", "ROWS", "rows that may wait; more are refused for now; by default 16384"),
    Option("metrics-port", "PORT", "http://127.0.0.1:PORT/metrics for Prometheus; by default none, 0 is any"),
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
    """Serves."""
    given = read("serve-model", arguments, OPTIONS, strangers=True)
    folder = given.only(1, 1, "the folder of a finished run")[0]
    settings = _settings(given)
    from ..model_server.serving import serve

    return serve(folder, given.rest, given.one("name") or "", settings, lambda *told: _ready(settings, *told))


def _settings(given: Given) -> Settings:
    """Where and how it serves."""
    from ..model_server.batching import Bounds
    from ..model_server.server import Settings
    from ..security import Tls, check_address

    address, is_secure = _address(given.one("listen") or DEFAULT)
    certificate, key, token = (given.file(name) for name in ("tls-cert", "tls-key", "token-file"))
    if is_secure and (certificate is None or key is None):
        raise UserError("--listen grpcs://… needs --tls-cert and --tls-key")
    if is_secure and token is None:
        raise UserError("--listen grpcs://… can be reached from other machines; give --token-file, too")
    if not is_secure and (certificate is not None or key is not None):
        raise UserError("--tls-cert and --tls-key go with --listen grpcs://HOST:PORT")
    tls = Tls(certificate, key) if certificate is not None and key is not None else None
    check_address(address, tls)
    known = Bounds()
    return Settings(
        address=address,
        tls=tls,
        token_file=token,
        bounds=Bounds(
            window=_milliseconds(given, known.window),
            max_batch=given.number("max-batch", 1) or known.max_batch,
            max_waiting=given.number("max-waiting", 1) or known.max_waiting,
        ),
        metrics_port=given.number("metrics-port"),
    )


def _address(text: str) -> tuple[str, bool]:
    """The address as gRPC takes it, and whether it has TLS."""
    if text.startswith("unix:/"):
        return text, False
    scheme, found, address = text.partition("://")
    if not found or scheme not in ("grpc", "grpcs"):
        raise UserError(f"--listen {text}: give {DEFAULT}, unix:/PATH or grpcs://HOST:PORT")
    return address, scheme == "grpcs"


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


def _ready(settings: Settings, model: ServedModel, address: str, metrics: str) -> None:
    """The lines that say that it answers, to what and with what."""
    scheme = "" if address.startswith("unix:") else "grpcs://" if settings.tls is not None else "grpc://"
    print(f"{model.name} is served at {scheme}{address}; Ctrl-C ends", flush=True)
    classes = f": {', '.join(model.class_names)}" if model.class_names else ""
    note(f"  columns  {', '.join(model.columns)}")
    note(f"  answers  {model.problem.replace('_', ' ')}{classes}")
    note(f"  batches  at most {settings.bounds.max_batch} rows, after at most {settings.bounds.window * 1000:g} ms")
    if metrics:
        note(f"  metrics  {metrics}")
    if settings.token_file is None and not address.startswith("unix:"):
        note("anybody on this machine may ask it; --token-file keeps others out")
