"""How ranks meet: none is let in that belongs to another attempt."""

from pathlib import Path

import pytest

from deepgen.kernel import ranks
from deepgen.kernel.errors import RunError


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
