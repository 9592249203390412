"""`deepgen tokens`: a token is told once, kept as a hash, listed and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.controller.tokens import Tokens


def test_add_list_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path)]
    assert main(["tokens", "add", "ada", "--role", "viewer", "--expires", "30d", *state]) == 0
    token = capsys.readouterr().out.strip()
    known = Tokens(tmp_path).caller(token)
    assert known is not None
    assert (known.user, known.role) == ("ada", "viewer")
    assert token not in (tmp_path / "tokens.json").read_text(encoding="utf-8")
    assert main(["tokens", *state]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("ada             viewer")
    assert "until 2" in listed
    assert main(["tokens", "revoke", "ada", *state]) == 0
    assert Tokens(tmp_path).caller(token) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["revoke", "ada"], "ada has no token here"),
        (["add", "ada", "--role", "king"], "--role king is none of viewer, user, operator"),
        (["take", "ada"], "takes nothing, or add USER, or revoke USER"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["tokens", *words, "--state", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
