"""A resolved scene: priorities, origins, aliases, headers that fall back, and the file it is written to."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from deepgen.kernel.errors import PluginError, SceneError
from deepgen.kernel.record import resolved_text, short_text, write_resolved
from deepgen.kernel.rows import RowSettings
from deepgen.kernel.run import RunSettings, splits
from deepgen.kernel.settings import KERNEL, load
from deepgen.kernel.sources import SCENES

SCENE = """\
# A scene for the tests.
task: seq2label
model: model
train_dir: train.tsv
train_header: text,label
train_model_header: cls_tokenize:text:tokens,label_mapping:label:labels
label_mapping: {bad: 0, good: 1}
learning_rate: 1e-3
tok_max_length: 64
deepspeed: {zero_optimization: {stage: 2, overlap_comm: true}}
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SCENE)


def test_command_line_over_scene_over_default() -> None:
    scene = load("mine.yaml", ["--learning_rate", "5e-4", "--learning_rate", "2e-4"])
    values = scene.values
    assert (values["learning_rate"].value, str(values["learning_rate"].origin)) == (2e-4, "command line")
    assert (values["source_max_length"].value, str(values["source_max_length"].origin)) == (64, "mine.yaml:9")
    assert (values["seed"].value, str(values["seed"].origin), values["seed"].is_set) == (42, "default", False)
    assert values["label_mapping"].value == {"bad": "0", "good": "1"}
    assert values["deepspeed"].value == {"zero_optimization": {"stage": 2, "overlap_comm": True}}
    assert scene.name == "mine"


def test_plugins_of_the_command_line_add_up() -> None:
    for name in ("one", "two", "three"):
        Path(f"{name}.py").write_text(
            "from dataclasses import dataclass\n"
            "from deepgen.plugins.metrics.acc import Accuracy\n"
            "from deepgen.kernel.registry import metric\n"
            f"@metric('{name}')\n@dataclass\nclass Own(Accuracy):\n    'Own.'\n"
        )
    Path("own.yaml").write_text(SCENE + "plugin: one.py\n")
    assert load("own.yaml", []).settings.plugin == (str(Path("one.py").resolve()),)
    scene = load("own.yaml", ["--plugin", "two.py", "--plugin", "three.py", "--eval_metrics", "two,three"])
    assert scene.settings.plugin == (str(Path("two.py").resolve()), str(Path("three.py").resolve()))
    assert [metric.name for metric, _ in scene.metrics] == ["two", "three"]


def test_readers_get_typed_settings() -> None:
    scene = load("mine.yaml", ["--num_ranks", "2"])
    assert scene.read(RunSettings) == RunSettings(num_ranks=2)
    assert scene.read(RowSettings).train_dir == str(Path("train.tsv").resolve())
    assert scene.trainer.learning_rate == 1e-3  # type: ignore[attr-defined]


def test_places_for_messages() -> None:
    scene = load("mine.yaml", ["--seed", "1"])
    assert scene.where("task") == "mine.yaml:2: task"
    assert scene.where("seed") == "--seed"
    assert scene.where("bf16") == "bf16"
    assert str(scene.placed(SceneError("task = 'x' is wrong"))) == "mine.yaml:2: task = 'x' is wrong"
    assert str(scene.placed(SceneError("nothing is right"))) == "nothing is right"


def test_headers_fall_back() -> None:
    scene = load("mine.yaml", ["--predict_header", "text", "--predict_model_header", "cls_tokenize:text:tokens"])
    assert scene.columns("eval") == scene.columns("train") == ("text", "label")
    assert scene.columns("predict") == ("text",)
    assert [item.processor for item in scene.items("eval")] == ["cls_tokenize", "label_mapping"]
    assert [processor.inputs for processor in scene.processors("predict")] == [("text",)]


def test_what_runs() -> None:
    assert splits(load("mine.yaml", [])) == ("train",)
    assert splits(load("mine.yaml", ["--eval_dir", "e", "--predict_dir", "p"])) == ("train", "eval", "predict")
    assert splits(load("mine.yaml", ["--no_do_train", "--eval_dir", "e"])) == ("eval",)


def test_settings_of_the_kernel_are_declared_once() -> None:
    import dataclasses

    names = [field.name for owner in KERNEL for field in dataclasses.fields(owner)]
    assert len(names) == len(set(names))


def test_two_plugins_may_share_an_option() -> None:
    both = "cls_tokenize:text:tokens,convert2multilabel:label:labels"
    scene = load("mine.yaml", ["--eval_model_header", both])
    assert scene.values["label_mapping"].value == {"bad": "0", "good": "1"}


def test_two_plugins_must_agree_on_an_option() -> None:
    Path("other.py").write_text(
        textwrap.dedent(
            '''
            """A metric with an option of another meaning."""
            from dataclasses import dataclass
            from deepgen.kernel.contracts import Metric
            from deepgen.kernel.registry import metric

            @metric("rate_of_another_kind")
            @dataclass
            class Other(Metric):
                """Other."""

                learning_rate: str = "high"

                def keys(self):
                    return ()

                update = compute = keys
            '''
        )
    )
    with pytest.raises(PluginError, match=r"trainer common and metric .* both declare 'learning_rate'"):
        load("mine.yaml", ["--plugin", "other.py", "--eval_metrics", "rate_of_another_kind"])


@pytest.mark.parametrize("plugin", ["no.py", "exec:./no"])
def test_a_plugin_that_is_not_there_is_named_with_its_place(plugin: str) -> None:
    Path("mine.yaml").write_text(SCENE + f"plugin: {plugin}\n")
    with pytest.raises(
        PluginError, match=rf"^mine.yaml:11: plugin (exec:)?{Path.cwd()}/no(\.py: no such file|: .* no pro)"
    ):
        load("mine.yaml", [])
    with pytest.raises(PluginError, match=f"^--plugin (exec:)?{Path.cwd()}/other"):
        load("mine.yaml", ["--plugin", plugin.replace("no", "other")])


def test_the_resolved_scene_is_a_scene_again() -> None:
    scene = load("mine.yaml", ["--seed", "7", "--result_header", "text", "--experiment_name", "on: off, # 3"])
    write_resolved(scene, Path("resolved.yaml"))
    text = Path("resolved.yaml").read_text()
    assert "learning_rate: 0.001  # mine.yaml:8" in text
    assert "\nseed: 7  # command line" in text
    assert "\ndefaults:\n" in text
    assert "\n  zero_stage: 1\n" in text
    again = load("resolved.yaml", [])
    assert again.name == "mine"
    for name, value in scene.values.items():
        if name != "name":
            assert again.values[name].value == value.value, name
            assert again.values[name].is_set == value.is_set, name
    assert resolved_text(again).splitlines()[1] == "name: mine"


@pytest.mark.parametrize("scene", sorted(SCENES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_short_form_is_the_same_scene_elsewhere(scene: Path) -> None:
    before = load(str(scene), ["--seed", "7", "--special_tokens", "<a b>,#1: x", "--plugin", ""])
    Path("below").mkdir()
    short = Path("below") / scene.name
    short.write_text(short_text(before, short.parent.resolve()))
    after = load(str(short), [])
    assert {name: value.value for name, value in after.values.items()} == {
        name: value.value for name, value in before.values.items()
    }


def test_a_model_folder_predicts() -> None:
    folder = Path("run/model")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    write_resolved(load("mine.yaml", ["--output_dir", "run", "--do_train", "true"]), folder / "scene.yaml")
    scene = load("run/model", ["--predict_dir", "new.tsv"])
    assert scene.values["model"].value == str(folder.resolve())
    assert str(scene.values["model"].origin) == "model folder"
    assert splits(scene) == ("predict",)
    assert scene.values["output_dir"].value is None
    assert scene.name == "mine-predict"
    assert load("run", []).values["model"].value == str(folder.resolve())
    assert load("run/model", ["--do_eval", "true"]).values["do_eval"].value is True


def test_label_names() -> None:
    own = ["--train_model_header", "cls_tokenize:text:tokens,label_mapping:label"]
    scene = load("mine.yaml", [*own, "--label_names", "label"])
    assert [one.name for one in scene.processors("train")[1].fields()] == ["labels"]
    assert [item.output for item in scene.items("predict")] == ["tokens", "labels"]
    with pytest.raises(
        SceneError, match=r"--label_names = 'lable', which no item of train_model_header gives; did you"
    ):
        load("mine.yaml", [*own, "--label_names", "lable"]).items("train")
    with pytest.raises(SceneError, match=r"--label_names has 2 names, but a task learns one output"):
        load("mine.yaml", ["--label_names", "start,end"]).items("train")
    named = load("mine.yaml", ["--label_names", "labels"])
    assert named.items("train") == load("mine.yaml", []).items("train")


def test_other_names_of_a_setting() -> None:
    tokens = [
        "--train_batch_size",
        "3",
        "--eval_batch_size",
        "5",
        "--evaluation_strategy",
        "no",
        "--outputter",
        "jsonl",
    ]
    values = load("mine.yaml", tokens).values
    assert values["per_device_train_batch_size"].value == 3
    assert values["per_device_eval_batch_size"].value == 5
    assert values["eval_strategy"].value == "no"
    assert values["output_type"].value == "jsonl"
