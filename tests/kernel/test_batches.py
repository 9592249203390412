from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel.batches import (
    BatchSettings,
    EvalBatches,
    MicroBatch,
    Padding,
    TrainBatches,
    collate,
    cuts,
    prefetch,
)
from deepgen.kernel.contracts import Field
from deepgen.kernel.features import Features, prepare
from deepgen.kernel.scene import Scene
from deepgen.kernel.table import Table

MakeScene = Callable[..., Scene]
PADDING = Padding(pad_token=7, pad_token_type=2, side="right")


@pytest.fixture
def features(make_scene: MakeScene, tmp_path: Path) -> Features:
    """103 rows of 1 to 40 letters; the label is the row number."""
    chosen = random.Random(3)
    rows = "".join(f"{'x' * chosen.randint(1, 40)}\t{number}\n" for number in range(103))
    (tmp_path / "rows.tsv").write_text(rows, encoding="utf-8")
    return prepare(make_scene(tmp_path / "rows.tsv"), "train", None)


def labels(micro: MicroBatch) -> list[int]:
    """The rows that count."""
    found: list[int] = micro.batch["labels"][: micro.rows].tolist()
    return found


def test_collate_pads_with_what_the_fields_say() -> None:
    import pyarrow as pa

    fields = {
        "input_ids": Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask"),
        "token_type_ids": Field("token_type_ids", "int64", "ragged", padding="pad_token_type"),
        "labels": Field("labels", "int64", "ragged", padding=-100, side="right"),
        "weights": Field("weights", "float32", "fixed"),
        "score": Field("score", "float32"),
        "number": Field("number", "int64"),
        "text": Field("text", "string"),
    }
    lists = pa.list_(pa.int32())
    batch = pa.RecordBatch.from_pydict(
        {
            "input_ids": pa.array([[1, 2, 3], [], [4]], lists),
            "token_type_ids": pa.array([[0, 0, 1], [], [1]], lists),
            "labels": pa.array([[5], [6, 7], [8]], lists),
            "weights": pa.array([[0.5, 1], [0, 0], [1, 2]], pa.list_(pa.float32())),
            "score": pa.array([0.5, 1, 2], pa.float32()),
            "number": pa.array([1, 2, 2**40], pa.int64()),
            "text": ["a", "b", "c"],
        }
    )
    table = Table(fields, [3], lambda _: batch)
    made = collate(table, np.array([2, 0, 1]), PADDING)
    assert made["input_ids"].tolist() == [[4, 7, 7], [1, 2, 3], [7, 7, 7]]
    assert made["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert made["token_type_ids"].tolist() == [[1, 2, 2], [0, 0, 1], [2, 2, 2]]
    assert made["labels"].tolist() == [[8, -100], [5, -100], [6, 7]]
    assert made["weights"].tolist() == [[1, 2], [0.5, 1], [0, 0]]
    assert made["score"].tolist() == [2, 0.5, 1]
    assert made["number"].tolist() == [2**40, 1, 2]
    assert made["text"] == ["c", "a", "b"]
    kinds = {name: str(values.dtype) for name, values in made.items() if name != "text"}
    assert kinds == {
        **dict.fromkeys(["input_ids", "attention_mask", "token_type_ids", "labels", "number"], "torch.int64"),
        **dict.fromkeys(["weights", "score"], "torch.float32"),
    }
    left = collate(table, np.array([2, 0]), Padding(7, 2, "left"))
    assert left["input_ids"].tolist() == [[7, 7, 4], [1, 2, 3]]
    assert left["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
    assert left["labels"].tolist() == [[8], [5]]
    assert collate(table, np.array([1]), PADDING)["input_ids"].shape == (1, 1)


def steps_of(features: Features, per_device: int, ranks: int, accumulation: int, **more: Any) -> list[list[list[int]]]:
    """The rows of each step by slot: every rank's micro batches."""
    settings = BatchSettings(per_device_train_batch_size=per_device, shuffle_num_batch=3)
    first = more.pop("first_step", 0)
    epochs = [
        list(TrainBatches(features, PADDING, settings, accumulation, ranks, rank, **more).epoch(1, first))
        for rank in range(ranks)
    ]
    return [[labels(micro) for rank in step for micro in rank] for step in zip(*epochs, strict=True)]


def test_a_step_has_the_same_rows_for_any_number_of_ranks(features: Features) -> None:
    alone = steps_of(features, 8, 1, 1)
    assert len(alone) == 13 == TrainBatches(features, PADDING, BatchSettings(8), 1, 1).steps_per_epoch
    assert sorted(row for step in alone for slot in step for row in slot) == list(range(103))
    for per_device, ranks, accumulation in ((4, 2, 1), (2, 2, 2), (1, 8, 1), (4, 1, 2), (2, 4, 1)):
        dealt = steps_of(features, per_device, ranks, accumulation)
        assert [sorted(chain(*step)) for step in dealt] == [sorted(chain(*step)) for step in alone]
        assert all(len(slot) <= per_device for step in dealt for slot in step)


def test_order_follows_seed_and_epoch_and_resumes(features: Features) -> None:
    assert steps_of(features, 4, 2, 1, seed=1) == steps_of(features, 4, 2, 1, seed=1)
    assert steps_of(features, 4, 2, 1, seed=1) != steps_of(features, 4, 2, 1, seed=2)
    assert steps_of(features, 4, 2, 1, seed=1, first_step=5) == steps_of(features, 4, 2, 1, seed=1)[5:]
    batches = TrainBatches(features, PADDING, BatchSettings(), seed=1)
    assert [rows.tolist() for rows in batches.order(0)] != [rows.tolist() for rows in batches.order(1)]


def test_rows_of_like_length_share_a_batch(features: Features) -> None:
    def padding(**settings: Any) -> int:
        batches = TrainBatches(features, PADDING, BatchSettings(2, **settings))
        return sum(micro.batch["input_ids"].numel() - micro.tokens for step in batches.epoch(0) for micro in step)

    assert 0 < padding() < padding(group_by_length=False) / 3


def test_rows_meet_other_rows_in_every_epoch(features: Features) -> None:
    batches = TrainBatches(features, PADDING, BatchSettings(8))
    first, second = ({frozenset(rows.tolist()) for rows in batches.order(epoch)} for epoch in (0, 1))
    assert not first & second


def test_a_slot_without_rows_does_not_count(features: Features) -> None:
    settings = BatchSettings(per_device_train_batch_size=34)
    dealt = [list(TrainBatches(features, PADDING, settings, 1, 3, rank).epoch(0)) for rank in range(3)]
    short = min(range(2), key=lambda step: sum(dealt[rank][step][0].rows for rank in range(3)))
    micros = [dealt[rank][short][0] for rank in range(3)]
    assert [micro.rows for micro in micros] == [1, 0, 0]
    assert [micro.batch["labels"].shape[0] for micro in micros] == [1, 1, 1]
    assert [micro.tokens for micro in micros[1:]] == [0, 0]


@pytest.mark.parametrize("ranks", [1, 2, 3, 30])
def test_evaluation_batches_are_the_same_for_any_number_of_ranks(features: Features, ranks: int) -> None:
    settings = BatchSettings(per_device_eval_batch_size=10)
    alone = [(batch["input_ids"].tolist(), rows.tolist()) for batch, rows in EvalBatches(features, PADDING, settings)]
    assert sorted(row for _, rows in alone for row in rows) == list(range(103))
    widths = [len(ids[0]) for ids, _ in alone]
    assert widths == sorted(widths, reverse=True)
    shares = [list(EvalBatches(features, PADDING, settings, ranks, rank)) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    turns = [(b["input_ids"].tolist(), rows.tolist()) for turn in zip(*shares, strict=True) for b, rows in turn]
    assert [turn for turn in turns if turn[1]] == alone
    assert len(turns) == -(-11 // ranks) * ranks


def test_nothing_of_an_empty_split(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").touch()
    features = prepare(make_scene(tmp_path / "rows.tsv"), "train", None)
    batches = TrainBatches(features, PADDING, BatchSettings())
    assert (batches.steps_per_epoch, list(batches.epoch(0))) == (0, [])
    assert list(EvalBatches(features, PADDING, BatchSettings(), 2, 1)) == []


def test_prefetch_works_ahead_but_not_far() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        try:
            for number in range(10):
                made.append(number)
                yield number
            raise KeyError("end of the items")
        finally:
            made.append(-1)

    taken = prefetch(items())
    assert made == []
    assert next(taken) == 0
    deadline = time.monotonic() + 20
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # enough for one too many
    assert made == [0, 1, 2, 3]
    with pytest.raises(KeyError, match="end of the items"):
        list(taken)
    before = threading.active_count()
    made.clear()
    left = prefetch(items())
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert made[-1] == -1
    assert threading.active_count() <= before


def test_widths_are_rounded_up_within_what_the_model_takes() -> None:
    lengths = np.array([3, 9])
    assert Padding().width(lengths) == 9
    assert Padding(multiple=4).width(lengths) == 12
    assert Padding(multiple=4, longest=10).width(lengths) == 10
    assert Padding(multiple=4, longest=8).width(lengths) == 9
    assert Padding(multiple=4).width(np.array([], int)) == 4


def test_passes_are_as_short_as_a_pass_is_worth() -> None:
    def cost(ends: list[int], lengths: np.ndarray, overhead: int) -> int:
        begins = [0, *ends[:-1]]
        return sum(overhead + lengths[begin] * (end - begin) for begin, end in zip(begins, ends, strict=True))

    assert cuts(np.array([]), 4, 10) == []
    assert cuts(np.array([50, 9, 9, 8]), 4, 10) == [1, 4], "the long row goes alone"
    assert cuts(np.array([50, 9, 9, 8]), 4, 1000) == [4]
    random = np.random.default_rng(0)
    for _ in range(20):
        lengths = np.sort(random.integers(1, 60, 9))[::-1]
        every = [[*(place for place in range(1, 9) if chosen >> place & 1), 9] for chosen in range(0, 512, 2)]
        allowed = [ends for ends in every if max(np.diff([0, *ends])) <= 4]
        best = min(cost(ends, lengths, 20) for ends in allowed)
        found = cuts(lengths, 4, 20)
        assert found in allowed
        assert cost(found, lengths, 20) == best
