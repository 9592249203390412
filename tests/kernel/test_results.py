"""The result file: one file in row order from any number of ranks, published whole or not at all."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel.contracts import Outputter, Predictions, Problem
from deepgen.kernel.errors import PluginError, RunError, SceneError
from deepgen.kernel.results import ResultFile, ResultSettings


@dataclass
class Shout(Outputter):
    """Each text in capitals; a row has a line for each of its texts."""

    fits = frozenset({"text"})

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ("text",)

    def format(self, predictions: Predictions) -> list[str]:
        return ["".join(f"{text.upper()}\n" for text in texts) for texts in predictions.texts or []]


@dataclass
class Broken(Shout):
    """Gives too few rows, or rows without an end."""

    fault: str = "too few"

    def format(self, predictions: Predictions) -> list[str]:
        whole = super().format(predictions)
        return whole[1:] if self.fault == "too few" else [line.strip() for line in whole]


def text_of(row: int) -> list[str]:
    return [f"wörd {row} " + "x" * (row * 37 % 50), *(["again"] if row % 3 == 0 else [])]


def wanted(rows: Sequence[int]) -> str:
    return "".join(f"{text.upper()}\n" for row in rows for text in text_of(row))


def batch(rows: Sequence[int]) -> Predictions:
    return Predictions(np.array(rows, dtype=np.int64), "text", texts=[text_of(row) for row in rows])


def predict(path: Path, shares: Sequence[Sequence[Sequence[int]]], expected: Sequence[int], keep: bool = False) -> None:
    """Each rank, a thread, writes its batches and commits; `gather` and the barrier are real."""
    together = threading.Barrier(len(shares))
    given: dict[int, Any] = {}
    failures: list[BaseException] = []

    def work(rank: int) -> None:
        def gather(index: Any) -> list[Any] | None:
            given[rank] = index
            together.wait(10)
            return [given[other] for other in range(len(shares))] if rank == 0 else None

        def barrier() -> None:
            together.wait(10)

        try:
            with ResultFile(path, Shout(), rank, len(shares), keep_rank_files=keep) as result:
                for rows in shares[rank]:
                    result.write(batch(rows))
                result.commit(gather, barrier, np.array(expected, dtype=np.int64))
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def dealt(rows: Sequence[int], ranks: int, size: int = 3) -> list[list[list[int]]]:
    """Batches by falling length, dealt round robin, with an empty one where a rank has none left."""
    order = sorted(rows, key=lambda row: -len(text_of(row)[0]))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    shares = [batches[rank::ranks] for rank in range(ranks)]
    most = max(map(len, shares))
    return [[*share, *[[]] * (most - len(share))] for share in shares]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("rows", [0, 1, 2, 10, 5000])
def test_any_number_of_ranks_gives_the_same_file(tmp_path: Path, ranks: int, rows: int) -> None:
    path = tmp_path / "run" / "predict.txt"
    predict(path, dealt(range(rows), ranks), range(rows))
    assert path.read_text() == wanted(range(rows))
    assert [file.name for file in path.parent.iterdir()] == ["predict.txt"]


def test_a_merge_holds_no_texts(tmp_path: Path) -> None:
    rows, size = 64, 1 << 20
    with ResultFile(tmp_path / "predict.txt", Shout(), 0, 1) as result:
        for row in reversed(range(rows)):
            result.write(Predictions(np.array([row]), "text", texts=[[f"{row % 10}" * size]]))
        tracemalloc.start()
        try:
            assert result.commit(lambda index: [index], lambda: None, np.arange(rows)) == rows
            assert tracemalloc.get_traced_memory()[1] < 8 * size
        finally:
            tracemalloc.stop()
    assert (tmp_path / "predict.txt").stat().st_size == rows * (size + 1)


def test_row_numbers_may_have_gaps(tmp_path: Path) -> None:
    rows = [0, 4, 5, 100]
    predict(tmp_path / "predict.txt", dealt(rows, 2, 1), rows)
    assert (tmp_path / "predict.txt").read_text() == wanted(rows)


def test_rank_files_are_kept_in_row_order(tmp_path: Path) -> None:
    path = tmp_path / "predict.txt"
    predict(path, dealt(range(5), 3, 2), range(5), keep=True)
    assert {file.name for file in tmp_path.iterdir()} == {"predict.txt", *(f"predict.txt_{rank}" for rank in range(3))}
    predict(path, [[[3, 1], [0]], [[2]]], range(4), keep=True)
    assert path.read_text() == wanted(range(4))
    assert (tmp_path / "predict.txt_0").read_text() == wanted([0, 1, 3])
    assert (tmp_path / "predict.txt_1").read_text() == wanted([2])
    assert not (tmp_path / "predict.txt_2").exists(), (
        "the file of a rank that is gone would pass for a part of this one"
    )


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([[[0, 1]], [[1, 2]]], "row 1 predicted more than once"),
        ([[[0]], [[1]]], "row 2 missing"),
        ([[[0, 1]], [[2, 7]]], "row 7 not of the input"),
        ([[], []], "row 0 and 2 more missing"),
    ],
)
def test_a_row_that_is_doubled_or_missing_is_refused(tmp_path: Path, shares: Any, message: str) -> None:
    path = tmp_path / "predict.txt"
    path.write_text("the result of an earlier run\n")
    with pytest.raises(RunError, match=message):
        predict(path, shares, range(3))
    assert path.read_text() == "the result of an earlier run\n"
    assert list(tmp_path.iterdir()) == [path]


def test_an_abort_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".predict.txt.1.spool").write_text("of a rank that was killed")
    with ResultFile(tmp_path / "predict.txt", Shout(), 0, 2) as result:
        result.write(batch([0, 1]))
    assert not list(tmp_path.iterdir())


def test_spools_of_a_run_that_died_do_no_harm(tmp_path: Path) -> None:
    for rank in range(3):
        (tmp_path / f".predict.txt.{rank}.spool").write_text("old\n")
    predict(tmp_path / "predict.txt", dealt(range(4), 2), range(4))
    assert (tmp_path / "predict.txt").read_text() == wanted(range(4))
    assert [file.name for file in tmp_path.iterdir()] == ["predict.txt"]


def test_a_spool_that_rank_0_cannot_see_is_said(tmp_path: Path) -> None:
    with ResultFile(tmp_path / "predict.txt", Shout(), 0, 2) as result:
        with pytest.raises(RunError, match="all hosts of the run share"):
            result.commit(lambda index: [index, (np.array([0]), np.array([5]))], lambda: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fault", "message"), [("too few", "gave 1 strings for 2 rows"), ("no end", "not end in a newline")]
)
def test_an_outputter_that_breaks_its_contract_is_named(tmp_path: Path, fault: str, message: str) -> None:
    with ResultFile(tmp_path / "predict.txt", Broken(fault), 0, 1) as result:
        with pytest.raises(PluginError, match=message):
            result.write(batch([0, 1]))


def test_the_file_is_named_after_its_outputter(tmp_path: Path) -> None:
    assert ResultSettings().path(tmp_path, Shout()) == tmp_path / "predict.txt"
    assert ResultSettings(result_file="x.tsv").path(tmp_path, Shout()) == tmp_path / "x.tsv"


@pytest.mark.parametrize("name", ["a/b.txt", "/no_such_folder/x", "..", ".", "", ".hidden", "scene.yaml", "model"])
def test_a_name_that_would_leave_or_break_the_run_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SceneError, match="here: result_file = "):
        ResultSettings(result_file=name).path(tmp_path, Shout(), "here: result_file")
