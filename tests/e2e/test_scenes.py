"""tests/test.sh: a line for each scene through the DeepSpeed launcher, and an exit code that tells."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Ran = dict[str, tuple[Path, "subprocess.CompletedProcess[str]"]]


def _run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ROOT / "tests" / "test.sh", *arguments],
        env=os.environ | {"PATH": path, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """By scene: a folder for what is temporary, and what the program said; both at the same time."""
    scenes = ("distil", "no_such_scene")
    places = [tmp_path_factory.mktemp(scene) for scene in scenes]
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(_run, places, ["--steps"] * 2, ["2"] * 2, scenes)
        return dict(zip(scenes, zip(places, done, strict=True), strict=True))


def test_a_scene_is_a_line_and_leaves_nothing(ran: Ran) -> None:
    place, done = ran["distil"]
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert line.split()[:2] == ["distil", "ok"]
    assert "acc 0." in line
    assert line.endswith("300 rows predicted")
    assert list(place.glob("deepgen-scenes-*")) == []


def test_a_scene_that_fails_is_said_and_its_output_is_kept(ran: Ran) -> None:
    _, done = ran["no_such_scene"]
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.split()[:2] == ["no_such_scene", "FAILED"]
    assert "no_such_scene" in Path(line.split()[-1]).read_text()
