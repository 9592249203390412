from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepgen.kernel import readers
from deepgen.kernel.errors import DataError, PluginFailed, SceneError
from deepgen.kernel.features import Features, prepare
from deepgen.kernel.scene import Scene

MakeScene = Callable[..., Scene]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks from small files."""
    monkeypatch.setattr(readers, "BLOCK", 200)


def write_rows(file: Path, count: int = 100) -> list[tuple[str, int]]:
    chosen = random.Random(1)
    rows = [("x" * chosen.randint(0, 12) + str(number), number % 3) for number in range(count)]
    file.write_text("".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    return rows


def everything(features: Features) -> list[list[Any]]:
    """Every row's fields as plain lists."""
    taken = features.take(np.arange(len(features)))
    return [[np.asarray(values).tolist() for values in row] for row in zip(*taken.values(), strict=True)]


def by_ranks(ranks: int, call: Callable[..., Features]) -> list[Features | Exception]:
    """What each of several ranks got, each a thread."""
    barrier = threading.Barrier(ranks, timeout=20)
    results: list[Features | Exception] = [RuntimeError("did not end")] * ranks

    def run(rank: int) -> None:
        try:
            results[rank] = call(rank=rank, ranks=ranks, barrier=barrier.wait)
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.usefixtures("small_blocks")
def test_features_of_every_row(make_scene: MakeScene, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.tsv")
    progress: list[tuple[int, int]] = []
    scene = make_scene(tmp_path / "rows.tsv", model_header="letters:text:ids,text,convert2int:labels", most_letters=10)
    features = prepare(
        scene, "train", None, keep_columns=["labels"], progress=lambda done, total: progress.append((done, total))
    )
    assert len(features) == 100
    assert list(features.fields) == ["input_ids", "text", "labels"]
    assert everything(features) == [[[ord(c) for c in text[:10]], text, label] for text, label in rows]
    assert features.lengths.tolist() == [min(10, len(text)) for text, _ in rows]
    assert features.row_numbers.tolist() == list(range(100))
    some = np.array([99, 0, 50, 50])
    assert features.columns(["labels"], some) == {"labels": [str(rows[row][1]) for row in some]}
    assert features.take(some, ["labels"])["labels"].tolist() == [rows[row][1] for row in some]
    assert features.truncated == {"input_ids": sum(len(text) > 10 for text, _ in rows) / 100}
    assert features.labels is not None
    assert (features.labels.field.name, features.labels.size, features.labels.names) == ("labels", 3, ())
    assert progress[-1] == (100, 100)


@pytest.mark.usefixtures("small_blocks")
def test_second_start_reads_the_cache(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv")
    first = prepare(make_scene(tmp_path / "rows.tsv"), "train", None)
    progress: list[int] = []
    again = prepare(make_scene(tmp_path / "rows.tsv"), "train", None, progress=lambda done, _: progress.append(done))
    assert (again.path, progress, everything(again)) == (first.path, [], everything(first))
    # What is damaged is made anew; the file is replaced, for it is still mapped here.
    (first.path / "part-00000.arrow").unlink()
    (first.path / "part-00000.arrow").write_bytes(b"short")
    assert everything(prepare(make_scene(tmp_path / "rows.tsv"), "train", None)) == everything(again)


def test_fingerprint_follows_data_options_and_header(make_scene: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    write_rows(file, 5)

    def digest(keep_columns: Sequence[str] = (), **settings: Any) -> str:
        return prepare(make_scene(file, **settings), "train", None, keep_columns=keep_columns).digest

    digests = [
        digest(),
        digest(most_letters=7),
        digest(keep_columns=["text"]),
        digest(model_header="letters:text:ids,labels"),
        digest(header="text,labels", model_header="letters:labels:ids,convert2int:labels"),
    ]
    file.write_text(file.read_text().replace("0", "9"), encoding="utf-8")
    digests.append(digest())
    assert len(set(digests)) == len(digests)
    assert digest(per_device_train_batch_size=3) == digests[-1]
    moved = file.rename(tmp_path / "moved.tsv")
    assert prepare(make_scene(moved), "train", None).digest == digests[-1]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_work_and_get_the_same(make_scene: MakeScene, tmp_path: Path, ranks: int) -> None:
    write_rows(tmp_path / "rows.tsv")
    alone = prepare(make_scene(tmp_path / "rows.tsv", cache_dir=tmp_path / "other"), "train", None)
    for found in by_ranks(ranks, lambda **who: prepare(make_scene(tmp_path / "rows.tsv"), "train", None, **who)):
        assert isinstance(found, Features), found
        assert found.digest == alone.digest
        assert everything(found) == everything(alone)
        assert len(list(found.path.glob("*.arrow"))) == ranks
        assert found.labels == alone.labels
        assert not list((tmp_path / "cache").rglob("*.work"))


def test_runs_at_the_same_time_make_them_once(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv")
    makers: set[int] = set()
    notices: list[str] = []
    first_is_at_work = threading.Event()

    def run(rank: int, **_: Any) -> Features:
        def progress(done: int, total: int) -> None:
            first_is_at_work.set()
            makers.add(rank)
            deadline = time.monotonic() + 20
            while len(notices) < 3 and time.monotonic() < deadline:  # the others have come
                time.sleep(0.01)

        if rank:
            first_is_at_work.wait(20)
        return prepare(make_scene(tmp_path / "rows.tsv"), "train", None, notice=notices.append, progress=progress)

    results = by_ranks(4, run)
    assert all(isinstance(found, Features) for found in results), results
    assert makers == {0}
    assert notices == ["another run makes the same features now; waiting for it"] * 3


BAD = "good\t1\nbad !\t0\nshort\nfine\tzero\nnice\t2\nboth !\tx\n"
MESSAGES = [
    "rows.tsv:2: text = 'bad !' has an exclamation mark",
    "rows.tsv:3: has 1 field where train_header names 2",
    "rows.tsv:4: labels = 'zero' is not a whole number",
    "rows.tsv:6: text = 'both !' has an exclamation mark",
]


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("block", [10, 1000])
def test_bad_rows_end_every_rank_alike(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, block: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "BLOCK", block)
    Path("rows.tsv").write_text(BAD, encoding="utf-8")
    scene = make_scene("rows.tsv")
    for found in by_ranks(ranks, lambda **who: prepare(make_scene("rows.tsv"), "train", None, **who)):
        assert isinstance(found, DataError), found
        assert str(found).startswith(MESSAGES[0] + "; mend it")
    with pytest.raises(DataError):
        prepare(scene, "train", None)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("policy", ["skip", "quarantine"])
def test_bad_rows_are_left_out_and_counted(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, policy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "BLOCK", 20)
    Path("rows.tsv").write_text(BAD, encoding="utf-8")
    for turn in (1, 2):  # the second time from the cache
        notices: list[str] = []
        rejects = tmp_path / f"rejects_{turn}.tsv"
        for found in by_ranks(
            ranks,
            lambda rejects=rejects, notices=notices, **who: prepare(
                make_scene("rows.tsv", bad_rows=policy), "train", None, rejects=rejects, notice=notices.append, **who
            ),
        ):
            assert isinstance(found, Features), found
            assert everything(found) == [[[ord(c) for c in "good"], 1], [[ord(c) for c in "nice"], 2]]
            assert found.row_numbers.tolist() == [0, 4]
            assert [str(reject) for reject in found.rejects] == MESSAGES
            assert found.bad_rows == 4
        written = f", written to {rejects}" if policy == "quarantine" else ""
        assert notices == [f"4 bad rows were left out{written}; the first: {MESSAGES[0]}"]
        if policy == "quarantine":
            assert rejects.read_text().splitlines()[:2] == [
                "rows.tsv\t2\ttext\tbad !\thas an exclamation mark\tbad !\t0",
                "rows.tsv\t3\t\tshort\thas 1 field where train_header names 2\tshort",
            ]
        else:
            assert not rejects.exists()
    # What was left out is remembered: a stricter scene refuses the same features.
    with pytest.raises(DataError, match=r"rows.tsv:2: text = 'bad !'"):
        prepare(make_scene("rows.tsv"), "train", None)


def test_rows_of_a_fixed_field_have_as_many_values(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.tsv").write_text("a\t1,0\nb\t1,0.5\nc\t1\nd\t0,0\n", encoding="utf-8")
    header = "letters:text:ids,numbers:labels"
    with pytest.raises(DataError, match=r"rows.tsv:3: labels = '1.0' has 1 values where other rows have 2"):
        prepare(make_scene("rows.tsv", model_header=header), "train", None)
    features = prepare(make_scene("rows.tsv", model_header=header, bad_rows="skip"), "train", None)
    assert features.take(np.arange(3), ["labels"])["labels"].tolist() == [[1, 0], [1, 0.5], [0, 0]]
    assert features.labels is not None
    assert (features.labels.size, features.labels.means) == (2, (2 / 3, 0.5 / 3))
    monkeypatch.setattr(readers, "BLOCK", 5)
    for ranks in (1, 4):
        Path("rows.tsv").write_text("a\t1,0\nb\t1,1\nc\t1,0,1\nd\t0,0,1\n", encoding="utf-8")
        for found in by_ranks(
            ranks, lambda **who: prepare(make_scene("rows.tsv", model_header=header), "train", None, **who)
        ):
            assert isinstance(found, DataError), found
            assert str(found) == "rows.tsv:3: from here on, 'labels' has 3 values a row where it had 2 before"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_broken_processor_is_named_on_every_rank(
    make_scene: MakeScene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    ranks: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "BLOCK", 10)
    Path("rows.tsv").write_text("fine\t1\nboom\t0\ngood\t0\nwell\t0\n", encoding="utf-8")
    for found in by_ranks(
        ranks, lambda **who: prepare(make_scene("rows.tsv", model_header="broken:text"), "train", None, **who)
    ):
        assert isinstance(found, PluginFailed), found
        assert str(found) == "processor 'broken' failed on rows.tsv:2 to 2: KeyError: 'boom'"
        assert found.rank == ranks - 1, "whose log has the traceback"
    assert 'letters.py", line' in capfd.readouterr().err, "the traceback is that of the plugin"


def test_labels(make_scene: MakeScene, tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("a\t-100\nb\t4\n", encoding="utf-8")
    features = prepare(make_scene(file), "train", None)
    assert features.labels is not None
    assert features.labels.size == 5
    assert prepare(make_scene(file, model_header="letters:text:ids"), "train", None).labels is None
    floats = prepare(make_scene(file, model_header="convert2float:labels"), "train", None).labels
    assert floats is not None
    assert (floats.size, floats.field.dtype, floats.means) == (1, "float32", (-48,))
    file.write_text("a\t-100\nb\t2\nc\t0\nd\t2\n", encoding="utf-8")
    assert prepare(make_scene(file), "train", None).labels == replace(features.labels, size=3, means=(1 / 3, 0, 2 / 3))
    file.write_text("a\t-1\nb\t4\n", encoding="utf-8")
    with pytest.raises(DataError, match="the least label is -1; classes are numbered from 0"):
        prepare(make_scene(file), "train", None)


def test_an_empty_file_has_no_features(make_scene: MakeScene, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").touch()
    features = prepare(make_scene(tmp_path / "rows.tsv"), "train", None)
    assert (len(features), len(features.lengths), features.take(np.empty(0, np.int64))) == (0, 0, {})


def test_mistakes_in_the_scene(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv", 3)
    scene = make_scene(tmp_path / "rows.tsv", model_header="letters:text:a,letters:labels:b")
    with pytest.raises(SceneError, match="'letters:labels:b' and an item before it both give the field 'input_ids'"):
        prepare(scene, "train", None)
    with pytest.raises(SceneError, match="result_header: train_header has no column 'txt'; did you mean 'text'"):
        prepare(make_scene(tmp_path / "rows.tsv"), "train", None, keep_columns=["txt"])
    (tmp_path / "file").touch()
    with pytest.raises(SceneError, match=r"--cache_dir = .*; give a folder to write to"):
        prepare(make_scene(tmp_path / "rows.tsv", cache_dir=tmp_path / "file"), "train", None)


@pytest.mark.usefixtures("small_blocks")
def test_any_number_of_threads_makes_the_same(make_scene: MakeScene, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv")
    made = [
        prepare(make_scene(tmp_path / "rows.tsv", cache_dir=tmp_path / n, preprocessing_num_workers=n), "train", None)
        for n in ("1", "4")
    ]
    assert everything(made[0]) == everything(made[1])
    assert made[0].row_numbers.tolist() == made[1].row_numbers.tolist()
