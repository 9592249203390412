"""Workers that format: the same file as without them, and a stop with the cause when one fails or is killed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from deepgen.kernel import registry
from deepgen.kernel.contracts import Outputter, Predictions
from deepgen.kernel.errors import PluginError, RunError
from deepgen.kernel.formatting import Workers
from deepgen.kernel.results import ResultFile

PLUGIN = '''
import os, time
from dataclasses import dataclass
from deepgen.kernel.contracts import Outputter
from deepgen.kernel.registry import outputter

@outputter("uneven")
@dataclass
class Uneven(Outputter):
    """Text with its row, some batches much later than others."""
    fits = frozenset({"text"})
    mark: str = "!"
    """What each line ends with."""
    fault: str = "none"
    """What goes wrong at the row 20."""

    def columns(self, problem, result_columns):
        return ("text",)

    def format(self, predictions):
        print("a plugin may print")
        time.sleep(0.05 if predictions.rows[0] % 4 == 0 else 0)
        if 20 in predictions.rows:
            if self.fault == "raises":
                raise ValueError("a row that nobody can write")
            if self.fault == "too few":
                return []
            if self.fault == "none at all":
                return ["fine\\n", *[None] * (len(predictions.rows) - 1)]
            if self.fault == "killed":
                os.kill(os.getpid(), 9)
            if self.fault == "exits":
                os._exit(3)
        return [f"{row} {texts[0]}{self.mark}\\n" for row, texts in zip(predictions.rows, predictions.texts)]
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "uneven.py"
    file.write_text(PLUGIN)
    registry.load_file(str(file))
    return file


def uneven(**options: str) -> Outputter:
    made: Outputter = registry.find("outputter", "uneven").plugin(**options)  # type: ignore[assignment]
    return made


def batches() -> list[Predictions]:
    return [
        Predictions(np.arange(start, start + 4), "text", texts=[[f"wörd {row}"] for row in range(start, start + 4)])
        for start in range(0, 60, 4)
    ]


def write(path: Path, outputter: Outputter, plugin: Path, count: int) -> bytes:
    workers = Workers(outputter, [str(plugin)], count) if count else None
    with ResultFile(path, outputter, 0, 1, workers=workers) as result:
        for predictions in batches():
            result.write(predictions)
        result.commit(lambda item: [item], lambda: None, np.arange(60))
    return path.read_bytes()


@pytest.fixture(autouse=True)
def before() -> set[int]:
    """The processes that tests before this one have left running."""
    _BEFORE.clear()
    _BEFORE.update(child.pid for child in psutil.Process().children(recursive=True))
    return _BEFORE


_BEFORE: set[int] = set()


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True) if child.pid not in _BEFORE]


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, plugin: Path) -> None:
    alone = write(tmp_path / "0.txt", uneven(mark="?"), plugin, 0)
    assert alone.decode() == "".join(f"{row} wörd {row}?\n" for row in range(60))
    for count in (1, 2, 3):
        assert write(tmp_path / f"{count}.txt", uneven(mark="?"), plugin, count) == alone
    assert children() == []


def test_order_and_a_bound_on_what_waits(plugin: Path) -> None:
    workers = Workers(uneven(), [str(plugin)], 2)
    rows: list[int] = []
    given = 0
    for predictions in batches():
        rows += [row for made in workers.put(predictions) for row in made.rows.tolist()]
        given += len(predictions.rows)
        assert given - len(rows) <= 4 * 2 * 2  # two batches of four rows a worker
    rows += [row for made in workers.finish() for row in made.rows.tolist()]
    assert rows == list(range(60))


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("raises", RunError, "outputter 'uneven' failed: ValueError: a row that nobody can write"),
        ("too few", PluginError, "gave 0 strings for 4 rows"),
        ("none at all", PluginError, "gave a row that is a NoneType; text or bytes are right"),
        ("killed", RunError, "a worker of outputter 'uneven' was ended by SIGKILL; the machine may be out of memory"),
        ("exits", RunError, "was ended by itself, with exit code 3"),
    ],
)
def test_a_failure_stops_the_writing_and_leaves_nothing(
    tmp_path: Path, plugin: Path, fault: str, kind: type[Exception], message: str
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(kind, match=message) as caught:
        write(tmp_path / "out" / "predict.txt", uneven(fault=fault), plugin, 2)
    if fault == "raises":
        assert 'uneven.py", line' in str(caught.value.__cause__), "the traceback is the worker's own"
        with pytest.raises(RunError, match=message):  # the same without workers
            write(tmp_path / "out" / "predict.txt", uneven(fault=fault), plugin, 0)
    assert list((tmp_path / "out").iterdir()) == []
    assert children() == []


def test_a_worker_ends_with_its_rank_and_ctrl_c_is_not_for_it(plugin: Path) -> None:
    workers = Workers(uneven(), [str(plugin)], 2)
    first, second = workers._processes
    assert os.getsid(first.pid) != os.getsid(0)
    assert first.stdin is not None
    first.stdin.close()  # as the kernel does it for a rank that is killed
    assert first.wait(60) == 0
    assert second.poll() is None
    workers.kill()
    assert children() == []
