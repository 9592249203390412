"""What is drawn for a row depends on seed, epoch and row alone; in prediction nothing is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel.batches import BatchSettings, Padding
from deepgen.kernel.drawing import uniform
from deepgen.kernel.errors import PluginError, PluginFailed
from deepgen.kernel.scene import Scene, Split
from deepgen.kernel.stream import eval_batches, open_split, train_batches

MakeScene = Callable[..., Scene]
PADDING = Padding()
HEADER = "veiled:text:ids,convert2int:labels"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Texts of 5 to 14 letters; the label is the row number."""
    file = tmp_path / "data.tsv"
    file.write_text("".join(f"{'abcdefghij'[: 5 + row % 6]}{row:04}\t{row}\n" for row in range(61)))
    return file


def seen(batches: Iterable[Any], found: dict[int, list[int]]) -> dict[int, list[int]]:
    """What was drawn for each row, by its label."""
    for batch, count in batches:
        for label, ids, veil in zip(batch["labels"].tolist(), batch["input_ids"], batch["veil"], strict=True):
            if count:
                real = veil != -1
                assert bool(((ids[real] == 0) == (veil[real] == 1)).all())
                found[label] = veil[real].tolist()
    return found


def trained(scene: Scene, size: int, ranks: int, epoch: int, seed: int = 5, first: int = 0) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for rank in range(ranks):
        made = open_split(scene, "train", None)
        batches = train_batches(made, PADDING, BatchSettings(size), 1, ranks, rank, seed)
        micro = [micro for step in batches.epoch(epoch, first) for micro in step]
        seen(((one.batch, one.rows) for one in micro), found)
    return found


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_has_its_own_in_each_epoch(make_scene: MakeScene, data: Path, streaming: bool) -> None:
    scene = make_scene(data, model_header=HEADER, datareader_streaming=streaming)
    first = trained(scene, 8, 1, 0)
    assert sorted(first) == list(range(61))
    assert trained(scene, 4, 2, 0) == first == trained(scene, 3, 1, 0)
    late = trained(scene, 8, 1, 0, first=3)  # as after a resume
    assert late == {row: first[row] for row in late}
    assert 61 - 24 <= len(late) <= 61 - 21, "one step of an epoch is short"
    assert trained(scene, 8, 1, 1) != first
    assert trained(scene, 8, 1, 0, seed=6) != first
    assert len({tuple(veil[:9]) for veil in first.values()}) > 50, "rows differ"


def test_a_stream_draws_what_features_draw(make_scene: MakeScene, data: Path) -> None:
    kept, streamed = (make_scene(data, model_header=HEADER, datareader_streaming=on) for on in (False, True))
    for epoch in (0, 2):
        assert trained(kept, 8, 1, epoch) == trained(streamed, 8, 2, epoch)


@pytest.mark.parametrize("streaming", [False, True])
def test_evaluation_is_always_the_same_and_prediction_plain(make_scene: MakeScene, data: Path, streaming: bool) -> None:
    more = {"eval_dir": data, "predict_dir": data, "datareader_streaming": streaming}
    scene = make_scene(data, model_header=HEADER, **more)

    def batches(split: Split, ranks: int = 1, size: int = 8) -> list[Any]:
        settings = BatchSettings(per_device_eval_batch_size=size)
        return [
            (batch, len(rows))
            for rank in range(ranks)
            for batch, rows in eval_batches(open_split(scene, split, None), PADDING, settings, ranks, rank)[1]
        ]

    once = seen(batches("eval"), {})
    assert once == seen(batches("eval"), {}) == seen(batches("eval", 2, 3), {})
    assert sorted(once) == list(range(61))
    for batch, _ in batches("predict"):
        assert "veil" not in batch
        assert bool((batch["input_ids"][:, :5] != 0).all())


def test_a_field_that_was_not_declared(make_scene: MakeScene, data: Path) -> None:
    scene = make_scene(data, model_header=HEADER.replace("veiled", "odd_draw"))
    with pytest.raises(PluginError, match=r"processor 'odd_draw' drew \d+ values of 'veil' .* declares input_ids"):
        next(train_batches(open_split(scene, "train", None), PADDING, BatchSettings(16)).epoch(0))


def test_a_processor_that_fails_as_it_draws(make_scene: MakeScene, data: Path) -> None:
    scene = make_scene(data, model_header=HEADER.replace("veiled", "odd_draw"), ends=True)
    with pytest.raises(PluginFailed, match=r"^processor 'odd_draw' failed as it drew for \d+ rows: SystemExit: 0$"):
        next(train_batches(open_split(scene, "train", None), PADDING, BatchSettings(16)).epoch(0))


def test_numbers_are_uniform_and_independent_of_the_other_rows() -> None:
    keys = np.array([3, 1 << 63, 4], np.uint64)
    counts = np.array([20000, 0, 7])
    made = uniform(keys, counts)
    assert made.shape == (20007,)
    assert 0 <= made.min() <= made.max() < 1
    np.testing.assert_allclose(np.histogram(made, 10, (0, 1))[0] / 20007, 0.1, atol=0.01)
    assert abs(np.corrcoef(made[:-1], made[1:])[0, 1]) < 0.03
    np.testing.assert_array_equal(uniform(keys[2:], np.array([7])), made[20000:])
    other = uniform(keys, counts, 1)
    assert abs(np.corrcoef(made, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(made[:20000], uniform(keys[2:], np.array([20000])))[0, 1]) < 0.03
