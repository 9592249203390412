"""Checkpoints: published whole or not at all, the newest intact one used, the best never removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel.checkpoints import MANIFEST, Checkpoints
from deepgen.kernel.errors import RunError


class Alone:
    """One rank."""

    rank = 0

    def barrier(self) -> None:
        """Nobody to wait for."""

    def broadcast(self, item: Any) -> Any:
        return item


def write(folder: Path) -> None:
    (folder / "engine").mkdir()
    (folder / "engine" / "weights").write_bytes(b"0123456789")
    (folder / "position.json").write_text("{}")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", Alone())


def steps(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_none_at_first(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None


def test_the_newest_by_number_is_found(checkpoints: Checkpoints) -> None:
    for step in (9, 10, 2):
        checkpoints.save(step, write, {"num_ranks": 1})
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.step, newest.path, dict(newest.facts)) == (10, checkpoints.path(10), {"num_ranks": 1})


@pytest.mark.parametrize("damage", ["cut", "gone", "no manifest", "torn manifest"])
def test_a_damaged_one_is_passed_over(checkpoints: Checkpoints, damage: str) -> None:
    checkpoints.save(1, write, {})
    checkpoints.save(2, write, {})
    weights, manifest = checkpoints.path(2) / "engine" / "weights", checkpoints.path(2) / MANIFEST
    match damage:
        case "cut":
            os.truncate(weights, 4)
        case "gone":
            weights.unlink()
        case "no manifest":
            manifest.unlink()
        case "torn manifest":
            os.truncate(manifest, 10)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1


def test_a_half_written_one_is_never_seen(checkpoints: Checkpoints) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    checkpoints.save(1, write, {})
    with pytest.raises(RunError, match=r"cannot be written: .*No space left"):
        checkpoints.save(2, fail, {})
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1
    checkpoints.save(2, write, {})
    assert steps(checkpoints) == ["step-1", "step-2"]


def test_an_old_one_of_the_same_step_is_replaced(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, write, {"try": 1})
    checkpoints.save(1, write, {"try": 2})
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.facts == {"try": 2}


@pytest.mark.parametrize(
    ("limit", "keep", "left"),
    [
        (None, (), [1, 2, 3, 4]),
        (1, (), [4]),
        (2, (), [3, 4]),
        (2, (1,), [1, 4]),
        (1, (2,), [2, 4]),
        (3, (1,), [1, 3, 4]),
        (9, (1,), [1, 2, 3, 4]),
        (2, (77,), [3, 4]),
    ],
)
def test_the_oldest_go_first_and_the_best_stays(
    checkpoints: Checkpoints, limit: int | None, keep: tuple[int, ...], left: list[int]
) -> None:
    for step in (1, 2, 3, 4):
        checkpoints.save(step, write, {})
    checkpoints.prune(limit, keep)
    assert steps(checkpoints) == [f"step-{step}" for step in left]
