"""A plugin's program on two ranks: one each, or one for both; whoever is left goes on, and nothing is left behind."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_servers import is_alive

from .conftest import DEEPGEN

PLUGIN = '''
"""Says which process it is, takes its time, and leaves something behind."""
import os
import tempfile
import time
from dataclasses import dataclass

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor

tempfile.mkdtemp()


@processor("told_by")
@dataclass
class ToldBy(Processor):
    """The process that it runs in."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        time.sleep(0.01)
        return {self.output: pa.array([os.getpid()] * len(columns[0]))}
'''
RANK = '''
"""A rank that asks until it is told to end, and writes down who answered."""
import os
import sys
from pathlib import Path

import pyarrow as pa
from deepgen.kernel import registry
from deepgen.kernel.stand_ins.loading import load

endpoint, folder = sys.argv[1], Path(sys.argv[2])
load(endpoint)
processor = registry.find("processor", "told_by").plugin()
processor.bind(("text",), "out")
rows = pa.array(["a", "b"])
while not (folder / f"end_{os.environ['RANK']}").exists():
    one, other = processor.process([rows])["out"].to_pylist()
    assert one == other
    with (folder / f"told_{os.environ['RANK']}").open("a") as file:
        print(one, file=file)
os._exit(0)
'''


class Ranks:
    """Two processes with the environment of two ranks of one run."""

    def __init__(self, folder: Path, launcher: str) -> None:
        self.folder, self._launcher = folder, launcher
        (folder / "own.py").write_text(PLUGIN)
        (folder / "rank.py").write_text(RANK)
        self.temporary = Path(tempfile.mkdtemp())
        self.attempt = folder / "attempt"
        self.attempt.mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> None:
        endpoint = f"exec:{shlex.join([*DEEPGEN, 'plugin', 'serve', 'own.py', *words])}"
        for rank in ("0", "1"):
            environment = {**os.environ, "RANK": rank, "WORLD_SIZE": "2", "TMPDIR": str(self.temporary)}
            if self._launcher == "deepgen":
                environment["DEEPGEN_ATTEMPT"] = str(self.attempt)
            else:
                environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
            command = [sys.executable, "rank.py", endpoint, "."]
            self.processes.append(subprocess.Popen(command, cwd=self.folder, env=environment))

    def told(self, rank: int) -> int:
        """The process that answers a rank's next question."""
        file = self.folder / f"told_{rank}"
        before = len(file.read_text().split()) if file.exists() else 0
        until = time.monotonic() + 120
        while not file.exists() or len(found := file.read_text().split()) < before + 2:
            assert time.monotonic() < until
            assert self.processes[rank].poll() is None
            time.sleep(0.02)
        return int(found[-1])

    def end(self, rank: int) -> None:
        (self.folder / f"end_{rank}").touch()
        assert self.processes[rank].wait(60) == 0

    def nothing_is_left(self, *programs: int) -> None:
        until = time.monotonic() + 60
        while any(map(is_alive, programs)) or [*self.temporary.iterdir(), *self.attempt.iterdir()]:
            assert time.monotonic() < until, (
                [*self.temporary.rglob("*"), *self.attempt.rglob("*")],  # not before: it fails on what goes meanwhile
                [pid for pid in programs if is_alive(pid)],
            )
            time.sleep(0.02)


@pytest.fixture(params=["deepgen", "torchrun"])
def ranks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ranks]:
    made = Ranks(tmp_path, request.param)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()
    shutil.rmtree(made.temporary, ignore_errors=True)


def starter(ranks: Ranks, program: int) -> int:
    """The rank that has started a program: its keeper's parent."""
    keeper = int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[1])
    parent = int(Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[1])
    return [process.pid for process in ranks.processes].index(parent)


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_the_ranks_share_one_program_and_who_is_left_starts_another(ranks: Ranks, how: str) -> None:
    ranks.start("--shared")
    program = ranks.told(0)
    assert ranks.told(1) == program
    first = starter(ranks, program)
    if how == "ends":
        ranks.end(first)
    else:
        ranks.processes[first].send_signal(signal.SIGKILL)
        ranks.processes[first].wait()
    other = 1 - first
    ranks.told(other)
    later = ranks.told(other)
    assert later != program
    assert starter(ranks, later) == other
    ranks.end(other)
    ranks.nothing_is_left(program, later)


def test_a_shared_program_that_is_killed_is_started_once(ranks: Ranks) -> None:
    ranks.start("--shared")
    program = ranks.told(0)
    assert ranks.told(1) == program
    os.kill(program, signal.SIGKILL)
    for rank in (0, 1):
        ranks.told(rank)
    later = ranks.told(0)
    assert ranks.told(1) == later != program
    for rank in (0, 1):
        ranks.end(rank)
    ranks.nothing_is_left(program, later)


def test_by_default_each_rank_has_its_own(ranks: Ranks) -> None:
    ranks.start()
    programs = [ranks.told(0), ranks.told(1)]
    assert programs[0] != programs[1]
    assert [starter(ranks, program) for program in programs] == [0, 1]
    for rank in (1, 0):
        ranks.end(rank)
    ranks.nothing_is_left(*programs)
