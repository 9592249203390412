"""tests/test.sh: a line for each scene through the DeepSpeed launcher, and an exit code that tells."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ROOT / "tests" / "test.sh", *arguments],
        env=os.environ | {"PATH": path, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_scene_is_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = _run(tmp_path, "--steps", "2", "distil")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert line.split()[:2] == ["distil", "ok"]
    assert "acc 0." in line
    assert line.endswith("300 rows predicted")
    assert list(tmp_path.glob("deepgen-scenes-*")) == []


def test_a_scene_that_fails_is_said_and_its_output_is_kept(tmp_path: Path) -> None:
    done = _run(tmp_path, "--steps", "2", "no_such_scene")
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.split()[:2] == ["no_such_scene", "FAILED"]
    assert "no_such_scene" in Path(line.split()[-1]).read_text()
