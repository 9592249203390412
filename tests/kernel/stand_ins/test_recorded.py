"""A resolved scene needs those plugins in other processes that what it does uses, and no others."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deepgen.kernel.check import examine
from deepgen.kernel.descriptors import describe_scene
from deepgen.kernel.errors import PluginError, SceneError
from deepgen.kernel.record import plain_settings, resolved_text
from deepgen.kernel.scene import Scene
from deepgen.kernel.settings import load

SCENE = """
task: seq2label
plugin: ["{endpoint}"]
train_dir: rows.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,convert2int:label:labels,there_words:text:words
predict_model_header: cls_tokenize:text:tokens
scale: 3
eval_metrics: there_acc
tracking: false
"""
GONE = "exec:/gone/program plugin serve own.py"
FILES = ["--predict_dir=rows.tsv", "--predict_header=text,label"]


@pytest.fixture
def folder(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder as a run leaves it whose plugins were at an endpoint that is no more."""
    monkeypatch.chdir(tmp_path)
    Path("rows.tsv").write_text("a text\t1\nanother\t0\n")
    Path("scene.yaml").write_text(SCENE.format(endpoint=endpoint))
    text = resolved_text(load("scene.yaml", []))
    assert text.count(endpoint) > 1
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "bert"}')
    (made / "scene.yaml").write_text(text.replace(endpoint, GONE))
    return made


@pytest.fixture
def loaded(folder: Path) -> Callable[..., Scene]:
    """The scene of the folder, with `--name=value` words over it."""
    return lambda *words: load(str(folder), words)


def test_what_prediction_does_not_use_need_not_be_there(loaded: Callable[..., Scene], folder: Path) -> None:
    scene = loaded(*FILES)
    found = examine(scene)
    assert (found.splits, found.problem) == (("predict",), "single_label_classification")
    plugins = {(one.kind, one.name): one.source for one in describe_scene(scene).plugins}
    assert plugins["processor", "there_words"] == plugins["metric", "there_acc"] == GONE
    with pytest.raises(PluginError, match=f"processor 'there_words' is at {GONE}, which is not reached"):
        scene.processors("train")
    assert loaded("--plugin=").settings.plugin == ()


def test_its_options_stay_what_they_were(loaded: Callable[..., Scene]) -> None:
    scene = loaded()
    assert (scene.values["scale"].value, scene.values["scale"].is_set) == (3, True)
    assert (scene.values["mode"].value, scene.values["mode"].is_set) == ("all", False)
    assert loaded("--mode=first").values["mode"].value == "first"
    with pytest.raises(SceneError, match="--scale = '10' is above the greatest value, 9"):
        loaded("--scale=10")
    with pytest.raises(SceneError, match="--scal: there is no such setting; did you mean 'scale'"):
        loaded("--scal=2")


def test_the_record_is_kept(loaded: Callable[..., Scene], folder: Path) -> None:
    again = resolved_text(loaded())
    there = yaml.safe_load((folder / "scene.yaml").read_text())["elsewhere"]
    assert yaml.safe_load(again)["elsewhere"] == there
    assert list(there) == [GONE]
    assert "elsewhere" not in plain_settings(again)


@pytest.mark.parametrize(
    "words",
    [
        ["--do_train=true"],
        ["--do_eval=true", "--do_predict=false", "--eval_dir=rows.tsv"],
        ["--predict_model_header=cls_tokenize:text:tokens,there_words:text:words"],
        ["--predict_model_header="],
        ["--output_type=there_lines"],
    ],
)
def test_what_is_used_has_to_be_there(loaded: Callable[..., Scene], words: list[str]) -> None:
    with pytest.raises(PluginError, match=rf"^model/scene.yaml:\d+: plugin {GONE}: /gone/program is no program"):
        loaded(*FILES, *words)


def test_training_without_it_does_not_ask_for_it(loaded: Callable[..., Scene]) -> None:
    header = "--train_model_header=cls_tokenize:text:tokens,convert2int:label:labels"
    scene = loaded("--do_train=true", "--do_predict=false", "--eval_metrics=acc", header)
    assert examine(scene).splits == ("train",)
    assert "scale" not in scene.values
    with pytest.raises(
        SceneError, match=r"^--scale is an option of processor 'there_words', which this scene does not"
    ):
        loaded("--do_train=true", "--do_predict=false", "--eval_metrics=acc", header, "--scale=2")


@pytest.mark.parametrize("said", ["no json", '{"options": [{"name": "a"}]}', '{"name": 1}'])
def test_a_record_that_cannot_be_read_is_named(loaded: Callable[..., Scene], folder: Path, said: str) -> None:
    with (folder / "scene.yaml").open("a") as file:
        file.write(f"  exec:other: ['{said}']\n")
    with pytest.raises(PluginError, match=r"^what is recorded of exec:other cannot be read: "):
        loaded()
