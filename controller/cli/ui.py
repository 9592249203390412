"""`deepgen ui`: opens the MLflow page of the runs recorded here."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ...kernel.errors import RunError, UserError, did_you_mean
from ...kernel.mlflow_store import only_one, store_address

_FIRST_PORT, _LAST_PORT = 5000, 5099
_SECONDS_TO_START = 120.0
_PAGE = "/#/experiments?workflowType=machine_learning"
"""MLflow's page opens on its other face, for chat programs, unless told otherwise."""
_OPTIONS = ("host", "port", "mlflow_tracking_uri")


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen ui --help` prints."""
    return (
        "usage: deepgen ui [--port N] [--host ADDRESS] [--mlflow_tracking_uri STORE]\n\n"
        "Opens the MLflow page of the runs recorded in STORE (by default MLFLOW_TRACKING_URI, or mlflow.db in the\n"
        f"working folder) at ADDRESS (127.0.0.1) and port N (the first free one from {_FIRST_PORT} on). Ctrl-C ends it."
    )


def main(arguments: Sequence[str]) -> int:
    """Serves the page until Ctrl-C and prints its address; of a store that is a server, prints the server's."""
    given = _read(arguments)
    store = store_address(given.get("mlflow_tracking_uri"))
    if store.startswith(("http://", "https://")):
        print(f"the runs are recorded at {store}")
        return 0
    file = Path(store.removeprefix("sqlite:///"))
    if store.startswith("sqlite:") and not file.exists():
        raise UserError(
            f"no run is recorded in {file}; change to the folder where `deepgen run` was started, "
            "or give --mlflow_tracking_uri sqlite:///FILE (a run that has just begun appears with its first steps)"
        )
    host = given.get("host", "127.0.0.1")
    port = _port(host, given.get("port"))
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", host, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level=warning"]
    if store.startswith("sqlite:"):
        command += ["--default-artifact-root", (file.parent / "mlartifacts").as_uri()]
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts what runs in its background with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        return _serve(command, host, port, store)
    except KeyboardInterrupt:
        return 0


def _serve(command: Sequence[str], host: str, port: int, store: str) -> int:
    with tempfile.TemporaryFile() as voice, contextlib.ExitStack() as to_end:
        with only_one(store):
            server = to_end.enter_context(_server(command, voice))
            _wait_for(server, host, port)
        if server.poll() is None:
            address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}{_PAGE}"
            print(f"{address}\nshows the runs of {store.removeprefix('sqlite:///')}; Ctrl-C ends it", flush=True)
            server.wait()
        raise RunError(_last_words(server, voice))


@contextlib.contextmanager
def _server(command: Sequence[str], voice: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The MLflow server, ended when the block is left."""
    # No usage reports to anybody, and no job queue of four more processes that nothing here uses.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=voice, stderr=voice)
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(10)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            server.kill()


def _last_words(server: subprocess.Popen[bytes], voice: IO[bytes]) -> str:
    voice.seek(0)
    said = voice.read().decode(errors="replace").strip().splitlines() or ["nothing"]
    return f"the MLflow server ended with exit code {server.returncode}; it said: {said[-1]}"


def _read(arguments: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    rest = iter(arguments)
    for token in rest:
        name, equals, value = token.removeprefix("--").partition("=")
        if not token.startswith("--") or name not in _OPTIONS:
            near = did_you_mean(name, _OPTIONS)
            raise UserError(
                f"deepgen ui does not take '{token}'{near or '; it takes --port, --host and --mlflow_tracking_uri'}"
            )
        following = value if equals else next(rest, "")
        if not following:
            raise UserError(f"--{name} has no value")
        given[name] = following
    return given


def _port(host: str, given: str | None) -> int:
    """The port that was asked for, or the first free one."""
    if given is not None:
        if not given.isdecimal() or not 0 < int(given) < 65536:
            raise UserError(f"--port {given} is not a port; give a whole number from 1 to 65535")
        if not _is_free(host, int(given)):
            raise UserError(
                f"--port {given} cannot be used on {host}: it is taken or not allowed; leave it out for a free one"
            )
        return int(given)
    for port in range(_FIRST_PORT, _LAST_PORT + 1):
        if _is_free(host, port):
            return port
    raise UserError(f"no port from {_FIRST_PORT} to {_LAST_PORT} is free on {host}; give one with --port")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _wait_for(server: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Until the server takes connections or has ended.

    Raises:
        RunError: it did not begin to answer in time.
    """
    until = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < until:
        if server.poll() is not None:
            return
        try:
            with socket.create_connection((host, port), timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise RunError(f"the MLflow server did not answer on port {port} within {_SECONDS_TO_START:.0f} s")
