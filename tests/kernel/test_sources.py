"""Scene files and the command line as lists of settings, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.kernel.errors import SceneError
from deepgen.kernel.sources import Given, find_scene, read_scene_file, read_tokens


def pairs(given: list[Given]) -> list[tuple[str, object]]:
    return [(item.name, item.raw) for item in given]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_tokens() -> None:
    given = read_tokens(["--a", "1", "--b=2", "--on", "--no_off", "--dash-ed", "-1", "--no_repeat", "3", "--e="])
    assert pairs(given) == [
        ("a", "1"),
        ("b", "2"),
        ("on", "true"),
        ("off", "false"),
        ("dash_ed", "-1"),
        ("no_repeat", "3"),
        ("e", ""),
    ]
    assert [item.bare for item in given] == [False, False, True, False, False, False, False]
    assert given[0].place == "--a"


@pytest.mark.parametrize("tokens", [["word"], ["--a", "1", "2"], ["--"]])
def test_stray_tokens(tokens: list[str]) -> None:
    with pytest.raises(SceneError, match="belongs to no setting"):
        read_tokens(tokens)


def test_yaml_keeps_the_text_that_was_written() -> None:
    Path("a.yaml").write_text("# A scene.\na: 0x10\nb: on\nc:\nd: [1, x:y]\ne: {k: 1e-5, n: null}\n")
    path, given, notes = read_scene_file("a.yaml")
    assert (path, notes) == (Path("a.yaml"), [])
    assert pairs(given) == [
        ("a", "0x10"),
        ("b", "on"),
        ("c", None),
        ("d", ["1", "x:y"]),
        ("e", {"k": "1e-5", "n": None}),
    ]
    assert [item.line for item in given] == [2, 3, 4, 5, 6]
    assert given[0].place == "a.yaml:2: a"


def test_an_argument_file_of_the_original() -> None:
    Path("old").write_text("--task seq2seq \\\n # a note\n--num_beams 3 # another\n--num_beams=4 x\n--flag\nbo\n")
    _, given, notes = read_scene_file("old")
    assert pairs(given) == [("task", "seq2seq"), ("num_beams", "3"), ("num_beams", "4"), ("flag", "bo")]
    assert [item.line for item in given] == [1, 3, 4, 5]
    assert notes == ["old:4: 'x' follows no setting and is left out"]


def test_paths_are_relative_to_their_scene() -> None:
    Path("far").mkdir()
    Path("far/a.yaml").write_text("train_dir: data.tsv\n")
    _, (given,), _ = read_scene_file("far/a.yaml")
    assert given.resolve("data.tsv") == str(Path("far/data.tsv").resolve())
    assert given.resolve(("a", "../b")) == (str(Path("far/a").resolve()), str(Path("b").resolve()))
    assert given.resolve("scratch:x.yaml") == f"scratch:{Path('far/x.yaml').resolve()}"
    assert given.resolve("package:name") == "package:name"
    assert given.resolve("hub:name:train") == "hub:name:train"
    assert given.resolve({"a": "b"}) == {"a": "b"}
    (typed,) = read_tokens(["--train_dir", "data.tsv"])
    assert typed.resolve("data.tsv") == str(Path("data.tsv").resolve())


def test_a_scene_by_name_or_path() -> None:
    Path("scenes").mkdir()
    Path("scenes/mine.yaml").write_text("task: seq2label\n")
    assert find_scene("mine") == Path("scenes/mine.yaml")
    assert find_scene("scenes/mine.yaml") == Path("scenes/mine.yaml")
    with pytest.raises(SceneError, match="did you mean 'mine'"):
        find_scene("mien")
    with pytest.raises(SceneError, match="is a folder"):
        find_scene("scenes")


def test_long_values_are_cut() -> None:
    shown = Given("a", "x" * 200, "command line").shown
    assert len(shown) < 80
    assert shown.endswith("…'")
