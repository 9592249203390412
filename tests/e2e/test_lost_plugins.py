"""A run whose plugin is lost says so on the terminal, once, and goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .conftest import DEEPGEN, Deepgen

PLUGIN = '''
"""A processor that ends its process at its first rows, as a crash in a library does."""
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor

BEEN = Path(__file__).with_name("been")


@processor("mortal_length")
@dataclass
class MortalLength(Processor):
    """The length of a text."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        if not BEEN.exists():
            BEEN.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {self.output: pa.array([len(text) for text in columns[0].to_pylist()])}
'''
HEADER = "--train_model_header=cls_tokenize:text:tokens,convert2int:label:labels,mortal_length:text:length"
ONCE = ("run", "sentiment.yaml", HEADER, "--do_eval=false", "--do_predict=false", "--max_steps=1", "--tracking=false")


def warnings(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("warning")]


def test_a_program_that_ends_is_said_on_the_terminal(place: Path, deepgen: Deepgen) -> None:
    (place / "own.py").write_text(PLUGIN)
    program = f"exec:{sys.executable} -m deepgen.controller.cli plugin serve {place}/own.py"
    run = deepgen(*ONCE, "--plugin", program)
    told = f"plugin {program} was ended by SIGKILL; the machine may be out of memory; it is started again"
    assert warnings(run.stdout + run.stderr) == [f"warning   {told}"]
    events = [json.loads(line) for line in (place / "runs/sentiment/events.jsonl").read_text().splitlines()]
    assert {"level": "WARNING", "text": told} in [event.get("notice") for event in events]


def test_a_server_that_is_away_is_said_on_the_terminal(place: Path, deepgen: Deepgen) -> None:
    (place / "own.py").write_text(PLUGIN)
    served = f"unix:{place}/own.sock"
    serve = [*DEEPGEN, "plugin", "serve", str(place / "own.py"), "--listen", served]
    script = f"while true; do {' '.join(serve)}; done"  # as a service manager does
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True) as manager:
        try:
            assert manager.stdout is not None
            assert manager.stdout.readline().startswith("serving at")
            run = deepgen(*ONCE, "--plugin", served)
        finally:
            os.killpg(manager.pid, signal.SIGKILL)
    (line,) = warnings(run.stdout + run.stderr)
    assert line.startswith(f"warning   plugin {served} was lost: ")
    assert line.endswith("; it is waited for, up to 30 s")
