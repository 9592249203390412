"""Some kills at random moments; `killer.py --kills 1000` is the whole of it."""

from pathlib import Path

from .killer import PHASES, play


def test_random_kills_change_no_end_and_leave_nothing(tmp_path: Path) -> None:
    killer = play(tmp_path / "controller", kills=30, seed=1, workers=10, slots=6, tell=print)
    assert killer.wrong == []
    assert killer.hits.total() >= 30
    assert {phase for phase, _ in killer.hits} == set(PHASES.values())
