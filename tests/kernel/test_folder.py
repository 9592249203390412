"""Which folder a run gets, with real scenes and event files."""

import fcntl
from pathlib import Path

import pytest

from deepgen.kernel.errors import SceneError
from deepgen.kernel.events import EventStream
from deepgen.kernel.folder import choose
from deepgen.kernel.record import write_resolved
from deepgen.kernel.scene import Scene
from deepgen.kernel.settings import load


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mood.yaml").write_text("# A scene.\ntask: seq2label\n")
    return load("mood.yaml", [])


def _past_run(scene: Scene, folder: Path, *, ended: bool, checkpoint: bool = True) -> None:
    events = EventStream(folder)
    events.notice("it begins")
    if checkpoint:
        (folder / "checkpoints" / "step-3").mkdir(parents=True)
    if ended:
        (folder / "model").mkdir()
        events.finished("succeeded")
    write_resolved(scene, folder / "scene.yaml")


def test_the_first_run_gets_the_plain_name(scene: Scene, tmp_path: Path) -> None:
    chosen = choose(scene, None, overwrite=False)
    assert chosen.path == tmp_path / "runs" / "mood"
    assert not chosen.resumes


def test_what_a_killed_run_has_left_of_a_result_goes(scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mood"
    _past_run(scene, folder, ended=False)
    gone = [".predict.txt.0.spool", ".predict.txt.11.spool", ".predict.txt.tmp", ".predict.txt_11.tmp"]
    kept = [".notes.tmp", ".spool", ".my.spool", "predict.txt_0"]
    for name in (*gone, *kept):
        (folder / name).touch()
    assert choose(scene, None, overwrite=False).resumes
    assert [name for name in (*gone, *kept) if (folder / name).exists()] == kept


def test_a_finished_run_is_kept(scene: Scene, tmp_path: Path) -> None:
    _past_run(scene, tmp_path / "runs" / "mood", ended=True)
    assert choose(scene, None, overwrite=False).path == tmp_path / "runs" / "mood-2"
    assert (tmp_path / "runs" / "mood" / "model").is_dir()


def test_an_unfinished_run_goes_on(scene: Scene, tmp_path: Path) -> None:
    _past_run(scene, tmp_path / "runs" / "mood", ended=False)
    chosen = choose(scene, None, overwrite=False)
    assert chosen.path == tmp_path / "runs" / "mood"
    assert chosen.resumes


def test_other_settings_are_another_run(scene: Scene, tmp_path: Path) -> None:
    _past_run(scene, tmp_path / "runs" / "mood", ended=False)
    other = load("mood.yaml", ["--seed", "7"])
    assert choose(other, None, overwrite=False).path == tmp_path / "runs" / "mood-2"
    with pytest.raises(SceneError, match="another seed"):
        choose(other, str(tmp_path / "runs" / "mood"), overwrite=False)


def test_a_run_that_failed_before_its_first_checkpoint_makes_room(scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mood"
    _past_run(scene, folder, ended=False, checkpoint=False)
    chosen = choose(load("mood.yaml", ["--seed", "7"]), None, overwrite=False)
    assert (chosen.path, chosen.resumes) == (folder, False)
    assert not (folder / "events.jsonl").exists()


def test_a_folder_of_ones_own_is_not_overwritten_unless_asked(scene: Scene, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    _past_run(scene, folder, ended=True)
    (folder / "notes.txt").write_text("keep me")
    with pytest.raises(SceneError, match=r"holds a finished run; .*--overwrite_output_dir"):
        choose(scene, "mine", overwrite=False)
    assert choose(scene, "mine", overwrite=True).path == folder
    assert not (folder / "model").exists() or not any((folder / "model").iterdir())
    assert (folder / "notes.txt").read_text() == "keep me"


def test_a_run_that_is_going_on_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    lock = tmp_path / "runs" / "mood" / "log" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert choose(scene, None, overwrite=False).path == tmp_path / "runs" / "mood-2"
        with pytest.raises(SceneError, match="a run is going on in"):
            choose(scene, str(tmp_path / "runs" / "mood"), overwrite=True)


def test_a_file_is_no_folder(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(SceneError, match="is a file; give a folder"):
        choose(scene, "mine", overwrite=False)
