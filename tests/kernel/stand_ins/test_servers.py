"""A server of plugins that runs by itself: it may be away for a while, and must be the same one when it is back."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from deepgen.kernel import connections, registry
from deepgen.kernel.contracts import Processor
from deepgen.kernel.errors import PluginError, RunError
from deepgen.kernel.stand_ins.loading import load

PLUGIN = '''
"""Lengths of texts."""
from dataclasses import dataclass

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("served_length_NUMBER")
@dataclass
class Length(Processor):
    """The length of a text."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        return {self.output: pa.array([FACTOR * len(text) for text in columns[0].to_pylist()])}
'''


class Place:
    """A server on a socket of its own, with a processor of its own."""

    numbers = iter(range(100))

    def __init__(self, folder: Path, socket: str = "plugin.sock") -> None:
        self.name = f"served_length_{next(self.numbers)}"
        self.socket = folder / socket
        self.endpoint = f"unix:{self.socket}"
        self.file = folder / "own.py"
        self.write(1)

    def write(self, factor: int) -> None:
        """Writes the plugin, which is another one for another factor."""
        content = PLUGIN.replace("served_length_NUMBER", self.name)
        self.file.write_text(content.replace("FACTOR", str(factor)))

    @contextmanager
    def served(self) -> Iterator[None]:
        words = ["plugin", "serve", str(self.file), "--listen", self.endpoint]
        command = [sys.executable, "-m", "deepgen.controller.cli", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving at")
            try:
                yield
            finally:
                process.kill()

    def processor(self) -> Processor:
        load(self.endpoint)
        made = cast(Processor, registry.find("processor", self.name).plugin())
        made.bind(("text",), "out")
        return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_server_that_comes_back_is_asked_again(place: Place) -> None:
    with place.served():
        processor = place.processor()
        assert processor.process([pa.array(["one", "three"])])["out"].to_pylist() == [3, 5]
    with place.served():
        assert processor.process([pa.array(["seven"])])["out"].to_pylist() == [5]


def test_a_server_that_stays_away_ends_the_run_in_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.served():
        processor = place.processor()
    monkeypatch.setattr(connections, "SECONDS_TO_REACH", 0.5)
    begin = time.monotonic()
    with pytest.raises(RunError) as error:
        processor.process([pa.array(["one"])])
    assert time.monotonic() - begin >= 0.5
    gone = "nothing listens there (connection refused)"
    assert str(error.value) == f"--plugin {place.endpoint}: could not be reached for 0.5 s: {gone}"


def test_another_plugin_under_the_name_is_not_asked(place: Place) -> None:
    with place.served():
        processor = place.processor()
        assert processor.process([pa.array(["one"])])["out"].to_pylist() == [3]
    place.write(2)
    with place.served(), pytest.raises(RunError, match=f"{place.name} is another one than before; run it again"):
        processor.process([pa.array(["one"])])


def test_a_socket_is_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    odd = Place(tmp_path, "a b?x%2e#ü.sock")
    with odd.served():
        assert odd.socket.is_socket()
        assert odd.processor().process([pa.array(["one"])])["out"].to_pylist() == [3]
    plain = Place(tmp_path)
    with plain.served():
        for other in ("plugin.sock?x", "plugin.sock#x", "plugin.soc%6b", "in/%2e%2e/plugin.sock"):
            with pytest.raises(
                PluginError, match=r"cannot be reached: there is no such socket; is the server running\?$"
            ):
                load(f"unix:{tmp_path}/{other}")


def test_a_server_that_is_not_there(place: Place) -> None:
    with pytest.raises(PluginError) as error:
        load(place.endpoint)
    assert (
        str(error.value)
        == f"--plugin {place.endpoint}: cannot be reached: there is no such socket; is the server running?"
    )
