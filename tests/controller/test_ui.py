"""`deepgen ui`: what it refuses, and a store that is a server. Tests of the record open a real page."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from deepgen.controller.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_no_run_was_recorded_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"deepgen: no run is recorded in {folder / 'mlflow.db'}; change to the folder where")
    assert said.count("\n") == 1
    assert not (folder / "mlflow.db").exists()


def test_a_store_that_is_a_server_has_its_own_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--mlflow_tracking_uri=http://127.0.0.1:5000"]) == 0
    assert capsys.readouterr().out == "the runs are recorded at http://127.0.0.1:5000\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prot", "5000"], "deepgen ui does not take '--prot'; did you mean 'port'?"),
        (["here"], "deepgen ui does not take 'here'; it takes --port, --host and --mlflow_tracking_uri"),
        (["--port"], "--port has no value"),
        (["--port", "many"], "--port many is not a port; give a whole number from 1 to 65535"),
        (["--port", "70000"], "--port 70000 is not a port; give a whole number from 1 to 65535"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    (folder / "mlflow.db").touch()
    assert main(["ui", *arguments]) == 2
    assert capsys.readouterr().err == f"deepgen: {message}\n"


def test_a_port_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    assert f"--port {port} cannot be used on 127.0.0.1" in capsys.readouterr().err
