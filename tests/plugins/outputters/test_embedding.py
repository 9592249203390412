"""`embedding`: Arrow and NPY files in row order from several ranks, as their own libraries read them."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.feather
import pytest

from deepgen.kernel.contracts import Predictions
from deepgen.kernel.errors import SceneError
from deepgen.kernel.results import ResultFile
from deepgen.plugins.outputters.embedding import Embedding

RANDOM = np.random.default_rng(1)
VECTORS = {side: RANDOM.normal(size=(10, 3)).astype(np.float32) for side in ("d", "q")}
TEXTS = [f'wörd "{row}"\t\n' for row in range(10)]


def write(
    path: Path, shares: list[list[list[int]]], sides: str, texts: list[str] | None = None, **options: Any
) -> Path:
    """Each rank, a thread, writes its batches and commits; gives the file."""
    together, given = threading.Barrier(len(shares)), dict[int, Any]()

    def rank(number: int) -> None:
        def gather(item: Any) -> list[Any] | None:
            given[number] = item
            together.wait()
            return [given[other] for other in range(len(shares))] if number == 0 else None

        def barrier() -> None:
            together.wait()

        result = ResultFile(path, Embedding(**options), number, len(shares))
        result.open()
        for rows in shares[number]:
            vectors = {side: VECTORS[side][rows] for side in sides}
            columns = {} if texts is None else {"text": [texts[row] for row in rows]}
            result.write(Predictions(np.array(rows, np.int64), "embedding", vectors=vectors, columns=columns))
        result.commit(gather, barrier)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return path


def test_arrow_of_two_ranks_is_in_row_order(tmp_path: Path) -> None:
    file = write(tmp_path / "predict.arrow", [[[7, 2], [9, 0]], [[1, 3, 4], [8, 5, 6]]], "dq", TEXTS)
    table = pyarrow.feather.read_table(file)
    assert table.column_names == ["row", "text", "q_embedding", "d_embedding"]
    assert table["row"].to_pylist() == list(range(10))
    assert table["text"].to_pylist() == TEXTS
    for side in ("q", "d"):
        np.testing.assert_array_equal(np.array(table[f"{side}_embedding"].to_pylist(), np.float32), VECTORS[side])
    assert [path.name for path in tmp_path.iterdir()] == ["predict.arrow"]


def test_npy_of_two_ranks_is_one_array(tmp_path: Path) -> None:
    shares = [[[7, 2], [9, 0]], [[1, 3, 4], [8, 5, 6]]]
    alone = np.load(write(tmp_path / "one.npy", shares, "q", embedding_format="npy"), mmap_mode="r")
    np.testing.assert_array_equal(alone, VECTORS["q"])
    both = np.load(write(tmp_path / "both.npy", shares, "dq", embedding_format="npy"))
    np.testing.assert_array_equal(both, np.stack([VECTORS["q"], VECTORS["d"]], axis=1))


def test_a_rank_without_rows_assembles_those_of_the_others(tmp_path: Path) -> None:
    file = write(tmp_path / "predict.arrow", [[], [[2, 1, 0]]], "q")
    assert pyarrow.feather.read_table(file)["row"].to_pylist() == [0, 1, 2]


def test_no_rows(tmp_path: Path) -> None:
    assert np.load(write(tmp_path / "none.npy", [[]], "q", embedding_format="npy")).shape == (0, 0)
    assert len(pyarrow.feather.read_table(write(tmp_path / "none.arrow", [[]], "q"))) == 0


def test_names_of_files_and_columns() -> None:
    assert (Embedding().extension, Embedding("npy").extension) == (".arrow", ".npy")
    assert Embedding().columns("embedding", ("id",)) == ("row", "id", "q_embedding", "d_embedding")
    with pytest.raises(SceneError, match="result_header: column 'row' has the name of a column"):
        Embedding().columns("embedding", ("row",))


def test_npy_has_no_place_for_texts() -> None:
    scene: Any = SimpleNamespace(values={"result_header": SimpleNamespace(value=("id", "text"))})
    with pytest.raises(SceneError, match=r"embedding_format = 'npy' has no place .*\(id,text\)"):
        Embedding("npy").check(scene, ("predict",))
    assert Embedding().check(scene, ("predict",)) == ()
