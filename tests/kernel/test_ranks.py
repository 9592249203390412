"""How ranks meet: none is let in that belongs to another attempt."""

from itertools import pairwise
from pathlib import Path

import pytest

from deepgen.kernel import ranks
from deepgen.kernel.errors import RunError


def test_ranks_look_together_about_once_a_second() -> None:
    now, looks = [0.0], list[int]()

    def look(seconds: float) -> float:
        looks.append(place)
        return seconds * 2  # the other rank needs three times as long

    place = 0
    for place in ranks.paced(range(1, 3000), look, 1.0, lambda: now[0]):
        now[0] += 0.005 if place < 1000 else 0.25 if place < 1500 else 4.0 if place < 1510 else 0.005
    assert looks[:8] == [0, 1, 3, 7, 15, 31, 63, 127]
    quick = [after - before for before, after in pairwise(looks) if before > 127 and after < 1000]
    assert set(quick) == {100}
    # it gets slower; the time of the first ones is known too late
    assert [place for place in looks if 1110 < place < 1500] == list(range(1112, 1500, 2))
    assert {1504, 1505, 1506, 1507, 1508, 1509} <= set(looks)
    assert looks[-1] > 2800


def test_a_rank_of_another_attempt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"file://{tmp_path}/what? #%20"
    monkeypatch.setenv("DEEPGEN_ATTEMPT_ID", "ours")
    store = ranks._store(address, 0, 3)
    ranks._check_attempt(store, 0)
    ranks._check_attempt(ranks._store(address, 1, 3), 1)
    monkeypatch.setenv("DEEPGEN_ATTEMPT_ID", "theirs")
    with pytest.raises(RunError, match=r"rendezvous: rank 2 of attempt theirs met ranks of another attempt, ours"):
        ranks._check_attempt(ranks._store(address, 2, 3), 2)
    monkeypatch.delenv("DEEPGEN_ATTEMPT_ID")
    with pytest.raises(RunError, match="attempt none"):
        ranks._check_attempt(store, 2)
