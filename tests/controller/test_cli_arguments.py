"""What stands on a command line, how lengths of time are written, and how a scene file is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deepgen.controller.cli import serve
from deepgen.controller.cli.arguments import JSON, Option, read
from deepgen.controller.cli.display import bar, cut, lasted, plain, table
from deepgen.controller.cli.scene_text import PATHS, parcel
from deepgen.controller.cli.submit import OPTIONS
from deepgen.kernel.errors import SceneError, UserError
from deepgen.kernel.options import options_of
from deepgen.kernel.settings import KERNEL

SOME = (Option("number", "N", short="n"), Option("label", "K=V", many=True), Option("all", short="a"), JSON)


def test_words_and_options_in_any_order() -> None:
    given = read("x", ["one", "-n3", "--label", "a=b", "two", "--label=c=d", "-a", "-o", "json"], SOME)
    assert given.words == ["one", "two"]
    assert given.number("number") == 3
    assert given.values["label"] == ["a=b", "c=d"]
    assert given.has("all")
    assert given.as_json


def test_strangers_are_left_with_their_values() -> None:
    given = read("x", ["scene", "--learning_rate", "-1", "--bf16", "-a", "--name=b"], SOME, strangers=True)
    assert (given.words, given.has("all")) == (["scene"], True)
    assert given.rest == ["--learning_rate", "-1", "--bf16", "--name=b"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2h", 7200), ("1h30m", 5400), ("1.5d", 129600), ("250ms", 0.25)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert read("x", ["--grace", text], (Option("grace", "TIME"),)).seconds("grace") == seconds


@pytest.mark.parametrize("text", ["", "h", "2x", "-3s", "1h x", "2 h"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(UserError, match="is not a length of time"):
        read("x", ["--grace", text], (Option("grace", "TIME"),)).seconds("grace")


def test_no_option_of_submit_is_a_setting() -> None:
    settings = {name for owner in KERNEL for o in options_of(owner, "kernel") for name in (o.name, *o.aliases)}
    assert not settings & {option.name.replace("-", "_") for option in OPTIONS}


def test_the_paths_are_those_that_the_kernel_declares() -> None:
    declared = {o.name for owner in KERNEL for o in options_of(owner, "kernel") if o.is_path}
    assert set(PATHS) == declared


def test_a_file_is_sent_with_absolute_paths_on_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.yaml").write_text("")
    scene = tmp_path / "mine.yaml"
    text = "# Why.\ntask: x\nmodel: scratch:model.yaml # new\nplugin:\n  - a.py\n  - 'b.py'\ntrain_dir: ../t.tsv\n"
    scene.write_text(text + "num_ranks: 2\nlearning_rate: 1e-4\ndeepspeed: {zero_optimization: {stage: 2}}\n")
    monkeypatch.chdir(tmp_path)
    sent = parcel("mine.yaml", ["--eval_dir", "e.tsv", "--plugin", "c.py,d.py", "--model", "org/name", "--no_bf16"])
    here = tmp_path.resolve()
    assert yaml.safe_load(sent.text) == {
        "task": "x",
        "model": f"scratch:{here}/model.yaml",
        "plugin": [f"{here}/a.py", f"{here}/b.py"],
        "train_dir": str(here.parent / "t.tsv"),
        "num_ranks": None,
        "learning_rate": "1e-4",
        "deepspeed": {"zero_optimization": {"stage": 2}},
    }
    assert sent.text.splitlines().index("learning_rate: 1e-4") == 8
    assert sent.ranks == 2
    assert sent.overrides == {
        "eval_dir": f"{here}/e.tsv",
        "plugin": f"{here}/c.py,{here}/d.py",
        "model": "org/name",
        "bf16": "false",
        "name": "mine",
    }


def test_an_argument_file_is_sent_as_yaml(tmp_path: Path) -> None:
    (tmp_path / "old.sh").write_text("--task x --train_dir t.tsv \\\n--bf16 --source_max_length 9\n")
    sent = parcel(str(tmp_path / "old.sh"), [])
    assert yaml.safe_load(sent.text) == {
        "task": "x",
        "train_dir": f"{tmp_path.resolve()}/t.tsv",
        "bf16": "true",
        "source_max_length": "9",
    }


def test_an_argument_file_is_sent_as_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("--task x --eval_dir e.tsv\n")
    sent = parcel(str(tmp_path / "old"), ["--do_predict", "--seed", "3"])
    assert yaml.safe_load(sent.text) == {
        "task": "x",
        "eval_dir": f"{tmp_path.resolve()}/e.tsv",
        "do_train": "false",
        "do_eval": "false",
        "predict_dir": f"{tmp_path.resolve()}/e.tsv",
    }
    assert sent.overrides == {"do_predict": "true", "seed": "3", "name": "old"}


def test_a_name_goes_as_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sent = parcel("sentiment", ["--num_ranks", "4"])
    assert (sent.name, sent.text, sent.ranks, sent.overrides) == ("sentiment", "", 4, {})
    Path("scenes").mkdir()
    Path("scenes/sentiment.yaml").write_text("task: mine\n")
    assert parcel("sentiment", []).text == "task: mine\n"
    assert parcel(".", []).name == str(tmp_path.resolve())
    with pytest.raises(SceneError, match="no such file here"):
        parcel("scenes/gone", [])


def test_how_things_look() -> None:
    assert [lasted(seconds) for seconds in (0, 59.4, 190, 7500, 273600)] == ["0s", "59s", "3m10s", "2h05m", "3d04h"]
    assert bar(1, 4, 4) == "━───  25%"
    assert table([("a", "bb", "c"), ("aaa", "b", "cccccc")], 12) == ["a    bb  c", "aaa  b   cc…"]
    assert cut("abc", None) == "abc"
    assert plain("a\x1b[31m\nb") == "a [31m b"


def test_a_server_of_plugins_that_jobs_may_use_is_named_with_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").touch()
    given = read("serve", ["--plugins", "grpcs://example.org:1?ca=ca.pem"], serve.OPTIONS)
    assert serve._settings(given).roots.endpoints == (f"grpcs://example.org:1?ca={tmp_path}/ca.pem",)
