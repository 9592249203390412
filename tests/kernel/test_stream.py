from __future__ import annotations

import random
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel import readers, stream
from deepgen.kernel.batches import BatchSettings, Padding
from deepgen.kernel.errors import DataError
from deepgen.kernel.flow import Input
from deepgen.kernel.processing import in_order
from deepgen.kernel.scene import Scene
from deepgen.kernel.stream import EvalStream, TrainStream

MakeScene = Callable[..., Scene]
PADDING = Padding()
SETTINGS = BatchSettings(per_device_train_batch_size=4, per_device_eval_batch_size=3)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks and windows from small files."""
    monkeypatch.setattr(readers, "BLOCK", 150)
    monkeypatch.setattr(readers, "ROWS", 7)
    monkeypatch.setattr(stream, "WINDOW", 16)


def write_rows(folder: Path, count: int = 203, bad: tuple[int, ...] = ()) -> None:
    """Rows in three files of two formats; the label is the row number."""
    chosen = random.Random(3)
    rows = [("x" * chosen.randint(1, 20) + "!" * (number in bad), number) for number in range(count)]
    folder.mkdir()
    third = count // 3
    for name, part in (("a.tsv", rows[:third]), ("b.csv", rows[third : 2 * third]), ("c.tsv", rows[2 * third :])):
        sign = "," if name.endswith("csv") else "\t"
        lines = [f"{text}{sign}{label}\n" for text, label in part]
        (folder / name).write_text(("text,labels\n" if sign == "," else "") + "".join(lines), encoding="utf-8")


def train(scene: Scene, per_device: int, ranks: int, accumulation: int, first_step: int = 0) -> list[list[list[int]]]:
    """The labels of each step, by slot."""
    settings = BatchSettings(per_device_train_batch_size=per_device)
    shares = [
        list(
            TrainStream(Input(scene, "train", None), PADDING, settings, accumulation, ranks, rank).epoch(0, first_step)
        )
        for rank in range(ranks)
    ]
    for share in shares:
        assert all(len(step) == accumulation for step in share)
    return [
        [micro.batch["labels"][: micro.rows].tolist() for rank in step for micro in rank]
        for step in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize(
    ("per_device", "ranks", "accumulation"), [(8, 1, 1), (4, 2, 1), (2, 2, 2), (2, 4, 1), (1, 1, 8)]
)
def test_steps_take_the_rows_in_order_for_any_ranks(
    make_scene: MakeScene, tmp_path: Path, per_device: int, ranks: int, accumulation: int
) -> None:
    write_rows(tmp_path / "data")
    scene = make_scene(tmp_path / "data")
    steps = train(scene, per_device, ranks, accumulation)
    expected = [list(range(begin, min(begin + 8, 203))) for begin in range(0, 203, 8)]
    assert [sorted(chain(*step)) for step in steps] == expected
    batches = TrainStream(Input(scene, "train", None), PADDING, BatchSettings(per_device), accumulation, ranks)
    assert batches.steps_per_epoch == len(expected)
    for first in (1, 7, 25, 26, 30):
        assert train(scene, per_device, ranks, accumulation, first) == steps[first:]


def test_ranks_without_rows_take_part_in_every_step(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("a\t0\nb\t1\nc\t2\n", encoding="utf-8")
    scene = make_scene(tmp_path / "rows.tsv")
    assert train(scene, 1, 5, 1) == [[[0], [1], [2], [], []]]
    assert train(scene, 2, 2, 2) == [[[0, 1], [2], [], []]]


def evaluate(scene: Scene, ranks: int, **more: Any) -> list[list[tuple[list[list[int]], list[int]]]]:
    """Every rank's batches as (ids, row numbers)."""
    shares = []
    for rank in range(ranks):
        batches = EvalStream(Input(scene, "train", None, ["labels"], **more), PADDING, SETTINGS, ranks, rank)
        share = []
        for batch, rows in batches:
            if len(rows):
                assert batch["labels"].tolist() == rows.tolist()
                assert batches.columns(["labels"], rows) == {"labels": [str(row) for row in rows]}
                assert batches.row_numbers[rows].tolist() == rows.tolist()
            share.append((batch["input_ids"].tolist(), rows.tolist()))
        shares.append(share)
    return shares


@pytest.mark.parametrize("ranks", [1, 2, 3, 12])
@pytest.mark.parametrize("count", [203, 192, 5])
def test_evaluation_batches_are_the_same_for_any_ranks(
    make_scene: MakeScene, tmp_path: Path, ranks: int, count: int
) -> None:
    write_rows(tmp_path / "data", count)
    scene = make_scene(tmp_path / "data")
    alone = evaluate(scene, 1)[0]
    assert sorted(row for _, rows in alone for row in rows) == list(range(count))
    shares = evaluate(scene, ranks)
    assert len({len(share) for share in shares}) == 1
    dealt = [batch for share in shares for batch in share if batch[1]]
    assert sorted(dealt, key=lambda batch: batch[1]) == sorted(alone, key=lambda batch: batch[1])


@pytest.mark.parametrize("ranks", [1, 2])
def test_bad_rows_leave_gaps_but_move_nothing(make_scene: MakeScene, tmp_path: Path, ranks: int) -> None:
    bad = (0, 3, 70, *range(96, 112), 202)
    write_rows(tmp_path / "data", bad=bad)
    scene = make_scene(tmp_path / "data", bad_rows="quarantine")
    steps = train(scene, 8 // ranks, ranks, 1)
    expected = [[row for row in range(begin, min(begin + 8, 203)) if row not in bad] for begin in range(0, 203, 8)]
    assert [sorted(chain(*step)) for step in steps] == expected
    shares = evaluate(scene, ranks)
    assert sorted(row for share in shares for _, rows in share for row in rows) == list(chain(*expected))
    notices: list[str] = []
    given = Input(scene, "train", None, rejects=tmp_path / "rejects.tsv", notice=notices.append)
    batches = TrainStream(given, PADDING, SETTINGS)
    for epoch in (0, 1):
        for _ in batches.epoch(epoch):
            pass
    assert given.bad_rows == len(bad)
    lines = [line.split("\t") for line in (tmp_path / "rejects.tsv").read_text().splitlines()]
    assert [int(line[-1]) for line in lines] == list(bad)
    assert lines[0][1:5] == ["1", "text", lines[0][3], "has an exclamation mark"]
    with pytest.raises(DataError, match=r"a.tsv:1: text = 'x*!' has an exclamation mark; mend it"):
        train(make_scene(tmp_path / "data"), 8, 1, 1)


def test_what_is_known_before_the_stream_begins(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "data", bad=(0, 100))
    given = Input(make_scene(tmp_path / "data", bad_rows="skip"), "train", None)
    assert given.rows == 203 == len(EvalStream(given, PADDING, SETTINGS))
    assert list(given.example.table.fields) == ["input_ids", "labels"]
    assert given.example.rows.tolist() == [1]
    assert given.labels is not None
    assert given.labels.size == 203
    assert Input(make_scene(tmp_path / "data", model_header="letters:text:ids"), "train", None).labels is None
    (tmp_path / "empty.tsv").touch()
    empty = Input(make_scene(tmp_path / "empty.tsv"), "train", None)
    assert list(TrainStream(empty, PADDING, SETTINGS).epoch(0)) == []
    assert list(EvalStream(empty, PADDING, SETTINGS, 2, 1)) == []
    with pytest.raises(DataError, match="--train_dir: there is no good row in it"):
        _ = empty.example


def test_the_scene_says_whether_a_split_is_a_stream(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "data", 40)
    found = []
    for streaming in ("true", "false"):
        scene = make_scene(tmp_path / "data", datareader_streaming=streaming)
        made = stream.open_split(scene, "train", None, keep_columns=["text"])
        assert (len(made), made.bad_rows, list(made.fields), made.labels and made.labels.size) == (
            40,
            0,
            ["input_ids", "labels"],
            40,
        )
        batches = stream.train_batches(made, PADDING, SETTINGS)
        assert batches.steps_per_epoch == 10
        rows = [row for step in batches.epoch(0) for micro in step for row in micro.batch["labels"].tolist()]
        assert sorted(rows) == list(range(40))
        known, evaluated = stream.eval_batches(made, PADDING, SETTINGS)
        assert len(known) == 40
        assert (known.expected is None) == (streaming == "true")
        texts: dict[int, str] = {}
        for _, indices in evaluated:
            texts.update(
                zip(known.row_numbers[indices].tolist(), known.columns(["text"], indices)["text"], strict=True)
            )
        found.append(texts)
    assert found[0] == found[1]
    assert sorted(found[0]) == list(range(40))


def test_work_in_order_by_several_threads() -> None:
    random_wait = random.Random(1)

    def make(number: int) -> int:
        np.zeros(random_wait.randint(1, 200_000)).sum()
        return number * 2

    assert list(in_order(make, iter(range(50)), 4)) == [number * 2 for number in range(50)]


def test_any_number_of_workers_gives_the_same_batches(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "data")
    given = Input(make_scene(tmp_path / "data"), "train", None)
    alone, several = (
        [
            [micro.batch["labels"].tolist() for micro in step]
            for step in TrainStream(given, PADDING, BatchSettings(8, dataloader_num_workers=workers)).epoch(0)
        ]
        for workers in (1, 4)
    )
    assert len(alone) == 26
    assert alone == several
