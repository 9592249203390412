"""A plugin that hangs ends the run in one line that says so: at a server, and as a program that the run has started."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from deepgen.kernel import registry, remote
from deepgen.kernel.connections import connect, end_all
from deepgen.kernel.contracts import BadRows, Processor
from deepgen.kernel.errors import RunError
from deepgen.kernel.stand_ins import instance
from deepgen.kernel.stand_ins.loading import load

PLUGIN = '''
"""Hangs for some texts."""
import time
from dataclasses import dataclass

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("NAME")
@dataclass
class Hangs(Processor):
    """The length of a text; none comes for some."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        texts = columns[0].to_pylist()
        while "for ever" in texts:
            time.sleep(1)
        return {self.output: pa.array([len(text) for text in texts])}
'''


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SECONDS_BETWEEN_PROBES", 0.2)


def words(folder: Path, name: str) -> list[str]:
    """The command that serves it, for which a call of a second hangs."""
    (folder / "hangs.py").write_text(PLUGIN.replace("NAME", name))
    serve = [sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve"]
    return [*serve, str(folder / "hangs.py"), "--longest-call", "1"]


@contextmanager
def listening(folder: Path, name: str) -> Iterator[str]:
    """Its address, where it listens by itself."""
    endpoint = f"unix:{folder / 'plugin.sock'}"
    with subprocess.Popen([*words(folder, name), "--listen", endpoint], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("serving at")
        try:
            yield endpoint
        finally:
            connect(endpoint).end()
            server.kill()


def processor(endpoint: str, name: str) -> Processor:
    load(endpoint)
    made = cast(Processor, registry.find("processor", name).plugin())
    made.bind(("text",), "out")
    return made


def test_at_a_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with listening(tmp_path, "hangs_there") as endpoint:
        there = processor(endpoint, "hangs_there")
        with pytest.raises(RunError) as error:
            there.process([pa.array(["one", "for ever"])])
        said = str(error.value)
        assert f"'hangs_there' ({endpoint}) was asked 3 times with the same rows and not heard: instance '" in said
        assert said.endswith("longer than --longest-call 1; restart this server")
        assert "was lost: instance '" in capfd.readouterr().err
        # other rows are answered, by the same instance
        assert there.process([pa.array(["one", "three"])])["out"].to_pylist() == [3, 5]


def test_a_server_that_is_at_another_call_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SECONDS_BETWEEN_PROBES", 600.0)  # who asks for ever waits for ever
    monkeypatch.setattr(instance, "PATIENCE", 0.5)
    with listening(tmp_path, "hangs_busy") as endpoint:
        there = processor(endpoint, "hangs_busy")
        assert there.process([pa.array(["one"])])["out"].to_pylist() == [3]
        link, name = there._connection.link, there._there.name  # type: ignore[attr-defined]
        stub, request = link._stubs["processor"], _asking("for ever", name)
        waits = stub.Process.future(request)
        with pytest.raises(RunError) as error:
            _ask_again_and_again(there)  # the first may come in before the call above
        said = str(error.value)
        assert said.startswith(f"--plugin {endpoint}: has been too busy for minutes: instance '{name}' (processor 'han")
        assert said.endswith("; ask again later, or restart this server if that call never ends")
        waits.cancel()
        assert there.process([pa.array(["three"])])["out"].to_pylist() == [5]


def _ask_again_and_again(there: Processor) -> None:
    for _ in range(10_000):
        there.process([pa.array(["one"])])


def _asking(text: str, name: str) -> object:
    from plugin_servers import inline

    from deepgen.v1.processor_service_pb2 import ProcessRequest

    return ProcessRequest(instance=name, columns=inline({"0": pa.array([text])}))


def test_as_a_program_the_rows_that_hang_are_bad_rows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    there = processor(f"exec:{shlex.join(words(tmp_path, 'hangs_here'))}", "hangs_here")
    with pytest.raises(BadRows) as error:
        there.process([pa.array(["for ever"])])
    assert [(row.row, row.value) for row in error.value.rows] == [(0, "for ever")]
    assert "longer than --longest-call 1" in error.value.rows[0].reason
    assert there.process([pa.array(["one", "three"])])["out"].to_pylist() == [3, 5]
    assert "was ended by itself: instance '" in capfd.readouterr().err
    end_all()
