"""A call to a plugin under test whose program is killed meanwhile is refused, and the next one has a new program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepgen.controller.cli import main
from deepgen.controller.conformance import far, parcels
from deepgen.controller.conformance.answers import predictions
from deepgen.controller.conformance.server import Server
from deepgen.controller.conformance.wire import Refused
from deepgen.kernel.endpoints import parse

LENGTHS = """
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("lengths")
@dataclass
class Lengths(Processor):
    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        return {self.output: pc.cast(pc.utf8_length(columns[0]), pa.int64())}
"""
SMALL = Path(__file__).with_name("small_plugins.py")


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(parse(f"exec:{sys.executable} -m deepgen.controller.cli plugin serve {SMALL}"), {})
    yield found
    found.close()


def test_a_processor_of_texts_of_any_length_takes_large_payloads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows that fill 70 MB are long ones, and what they give is not what short ones give."""
    file = tmp_path / "lengths.py"
    file.write_text(LENGTHS)
    assert main(["plugin", "check", str(file), "--over", "wire", "--only", "payload.parts_large"]) == 0
    assert "1 check passed" in capsys.readouterr().out


@pytest.mark.parametrize(("at", "call"), [(far, "from_predictions"), (parcels, "read")], ids=["before", "after"])
def test_a_program_that_is_killed_in_a_call(
    at: Any, call: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the rows are made ready for the call, or read from its answer."""
    (steady,) = (server.case(one) for one in server.plugins if one.name == "steady")
    rows = predictions("regression", range(3))
    right = steady.subject.format(steady.main, rows)
    assert right == ["0\n", "1\n", "2\n"]
    real = getattr(at, call)

    def killing(given: Any) -> Any:
        monkeypatch.setattr(at, call, real)
        assert server.program is not None
        server.program.kill()
        assert server.program.code(10) is not None
        return real(given)

    monkeypatch.setattr(at, call, killing)
    if at is far:
        with pytest.raises(Refused, match="UNAVAILABLE"):
            steady.subject.format(steady.main, rows)
    else:
        assert steady.subject.format(steady.main, rows) == right
    assert server.restarts == 0
    with pytest.raises(Refused, match="NOT_FOUND"):
        steady.subject.format(steady.named("main"), rows)
    assert server.restarts == 1
