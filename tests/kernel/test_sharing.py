"""The folder in which ranks tell each other of a program is this user's alone."""

from pathlib import Path

import pytest

from deepgen.kernel.errors import PluginError
from deepgen.kernel.sharing import Meeting, Shared


@pytest.fixture
def meeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meeting:
    monkeypatch.setenv("DEEPGEN_ATTEMPT", str(tmp_path))
    return Meeting("exec:a")


def test_what_one_leaves_the_other_finds_and_nobody_else_reads(meeting: Meeting) -> None:
    with meeting.first():
        assert meeting.found() is None
        meeting.leave(Shared("/run/x", "secret"))
    assert Meeting("exec:a").found() == Shared("/run/x", "secret")
    assert Meeting("exec:b").found() is None
    assert meeting.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o077 for file in meeting.folder.glob("*.json")} == {0}


def test_a_link_or_a_folder_in_which_others_write_is_refused(meeting: Meeting, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    meeting.folder.symlink_to(tmp_path / "open")
    with pytest.raises(PluginError, match="is not this user's alone; delete it"), meeting.first():
        pass
    meeting.folder.unlink()
    meeting.folder.mkdir()
    meeting.folder.chmod(0o777)
    with pytest.raises(PluginError, match="is not this user's alone; delete it"), meeting.first():
        pass
    assert not list(meeting.folder.iterdir())
