"""The file of a token is read in one way, and one that lets others in is for its user alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.kernel.errors import UserError
from deepgen.kernel.token_file import token_of

WHERE = "--token-file x"


def test_one_word_is_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" secret-1\n")
    assert token_of(file, WHERE) == "secret-1"
    file.chmod(0o600)
    assert token_of(file, WHERE, is_ours=True) == "secret-1"


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"two words", b"\xff\xfe", "n\u00e9".encode()])
def test_what_no_call_could_bring(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"^{WHERE} holds no token; one word in ASCII is right$"):
        token_of(file, WHERE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o777])
def test_a_token_of_ours_is_for_us_alone(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret-1")
    file.chmod(mode)
    words = rf"^{WHERE}: others may read or change it \(mode {mode:o}\); `chmod 600 {file}`, and renew what is in it$"
    with pytest.raises(UserError, match=words):
        token_of(file, WHERE, is_ours=True)
    assert token_of(file, WHERE) == "secret-1", "whoever brings it may have it from a store with modes of its own"


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_file_that_is_gone(is_ours: bool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{WHERE} cannot be read: No such file or directory$"):
        token_of(tmp_path / "token", WHERE, is_ours=is_ours)
