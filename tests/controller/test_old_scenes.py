"""Argument files as the original had them: they run as they were meant, become YAML, and say what is different now."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.controller.cli.differences import DEFAULTS, GENERATION, HERE
from deepgen.kernel.settings import load

BEAMS = """--task seq2seq --model model --train_dir Data/pairs.txt --eval_dir Data/pairs.txt
--train_header source,target --train_model_header s2s_tokenize:source:target:input
--predict_header source,target --predict_model_header source,s2s_tokenize:source:input
--result_header source --output_type generation --result_file out.txt
--tok_max_length 64 --max_length 24 --num_beams 4 --num_return_sequences 4 --length_penalty 1.5
--special_tokens <q>,<a> --eval_metrics rouge,bleu --save_steps 500 --eval_steps 500
--per_device_train_batch_size 8 --num_train_epochs 2 --logging_steps 50 --fp16 False --dataloader_num_workers 4 \\
--remove_unused_columns False --disable_tqdm True
bo
"""
"""As `bart_generation` was, from its README and the published scenes."""
REGRESSION = """
--task seq2label --model model
--train_dir Data/graded --train_header query,doc,grade
--train_model_header cls_tokenize:query:doc:input,label_mapping:grade:labels --label_mapping Good:1,Bad:0,Fair:0.5
--eval_dir Data/graded --predict_model_header query,doc,cls_tokenize:query:doc:input
--result_header query,doc --output_type score --eval_metrics eval_loss --num_labels 1 --tok_max_length 128 --do_predict
--previous_dir none/here --output_mapping 0:a,1:b
"""
TAGS = """
--task seq2label --model model --train_dir Data/many.txt --train_header query,tags
--train_model_header cls_tokenize:query:input,convert2multilabel:tags:labels --label_mapping red:0,green:1,blue:2
--eval_dir Data/many.txt --predict_model_header query,cls_tokenize:query:input --result_header query
--eval_metrics auc_list,auc --datareader_streaming --max_steps 100 --do_train --do_predict
"""
TWINS = """
--task twinbert --model local_model --previous_dir model --train_dir Data/pairs.txt --train_header query,doc
--train_model_header twinbert_tokenize:query:doc:input --tok_max_length 16 --max_length 32 --temperature 0.1
--do_train --learning_rate 2e-5 --warmup_steps 10 --seed 5
"""
GUIDED = """
--task guided_seq2seq --model model --trainer common --train_dir Data/pairs.txt --eval_dir Data/pairs.txt
--train_header source,target --train_model_header s2s_tokenize:source:target:input
--predict_model_header source,s2s_tokenize:source:input --result_header source --output_type generation
--latent_class 4 --selected_class 2 --guided_mode dec --em hard --num_beams 2 --max_length 40 --eval_metrics bleu
--evaluation_strategy steps --eval_steps 100 --save_steps 100 --do_train
"""
SCENES = {"bart_generation": BEAMS, "graded": REGRESSION, "tagged": TAGS, "twins": TWINS, "guided": GUIDED}
EVERYWHERE = ("output_dir is not set", "bf16 is not set: auto; in the original false")
SAYS: dict[str, tuple[str, ...]] = {
    "bart_generation": (
        "neither do_train nor do_predict is set",
        "a row that cannot be read ends the run",
        "max_length is two settings",
        "eval_loss is the loss of the true text",
        "bleu_sentence",
        "rouge_legacy",
        "of several returned texts the first is scored",
        "the checkpoint has it, where the original set min_length 5, early_stopping True, repetition_penalty 1.0",
        "per_device_eval_batch_size is not set: 32; in the original 8",
    ),
    "graded": (
        "the files of a folder",
        "score writes the number itself",
        "one file in the order of the input",
    ),
    "tagged": (
        "a stream is shuffled within a buffer",
        "score writes the sigmoid of each class",
        "where the original read the rows to predict",
        "num_train_epochs is not set: 3.0; in the original 1",
        "save_strategy is not set: epoch; in the original steps",
        "num_labels is not set: as many as the labels",
    ),
    "twins": (
        "unless embedding_size is set",
        "the document is cut at target_max_length",
        "a row that cannot be read ends the run",
    ),
}
SAYS["guided"] = (
    "really builds guided_mode",
    "cls_loss_weight is not set: 1.0; in the original 0",
    "max_length is two settings",
    "bleu_sentence",
)
SILENT: dict[str, tuple[str, ...]] = {
    "bart_generation": (
        "score writes",
        "num_train_epochs is not",
        "save_strategy",
        "a stream",
        "of a folder",
        "sigmoid",
    ),
    "graded": (
        "label_mapping",
        "result_file",
        "max_length is two",
        "num_train_epochs",
        "sigmoid",
        "rouge",
        "num_labels",
        "eval_metrics",
        "eval_loss is",
    ),
    "tagged": ("writes the number itself", "bleu", "empty pair", "max_length is two", "model is not set"),
    "twins": (
        "score writes",
        "one file in the order",
        "eval_steps",
        "target_max_length is not set",
        "model is not set",
    ),
}


SILENT["guided"] = ("save_strategy", "eval_strategy", "score writes", "one file in the order", "num_labels")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("config/SceneConfigs", "Data/graded", "model"):
        Path(folder).mkdir(parents=True)
    Path("model/config.json").write_text('{"model_type": "bert"}')
    Path("Data/pairs.txt").write_text("one\teins\ntwo\tzwei\n")
    Path("Data/graded/b.txt").write_text("car\tred car\tGood\ncar\tbike\tFair\n")
    Path("Data/many.txt").write_text("grass\tgreen\nflag\tred,blue\n")
    for name, text in SCENES.items():
        Path(f"config/SceneConfigs/{name}").write_text(text)


@pytest.mark.parametrize("name", SCENES)
def test_the_yaml_form_is_the_same_scene(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    old = Path(f"config/SceneConfigs/{name}")
    assert main(["check", str(old)]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert main(["check", str(old), "--yaml"]) == 0
    text = capsys.readouterr().out
    assert f"{text}\nwhat differs from the original:\n- " in shown
    new = old.with_suffix(".yaml")
    new.write_text(text)
    before, after = load(str(old), []), load(str(new), [])
    assert {n: v.value for n, v in before.values.items()} == {n: v.value for n, v in after.values.items()}
    assert {n: v.is_set for n, v in before.values.items()} == {n: v.is_set for n, v in after.values.items()}
    assert before.name == after.name == name
    assert main(["check", str(new)]) == 0, capsys.readouterr().err
    again = capsys.readouterr().out
    assert "what differs from the original" not in again
    assert str(Path.cwd()) not in text


@pytest.mark.parametrize("name", SCENES)
def test_what_differs_is_said_and_nothing_else(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"config/SceneConfigs/{name}"]) == 0
    said = capsys.readouterr().out.partition("what differs from the original:")[2]
    for text in (*EVERYWHERE, *SAYS[name]):
        assert text in said
    for text in SILENT[name]:
        assert text not in said


def test_the_temperature_of_twins(capsys: pytest.CaptureFixture[str]) -> None:
    old = Path("config/SceneConfigs/twins")
    assert main(["check", str(old)]) == 0
    assert "temperature is not set" not in capsys.readouterr().out
    old.write_text(TWINS.replace("--temperature 0.1", ""))
    assert main(["check", str(old)]) == 0
    assert "temperature is not set: 0.05; in the original 1.0" in capsys.readouterr().out


def test_what_is_done_decides_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["--do_train", "--no_do_predict"]
    assert main(["check", "config/SceneConfigs/graded", *train]) == 0
    said = capsys.readouterr().out.partition("what differs from the original:")[2]
    assert "label_mapping makes decimal numbers" in said
    assert "num_train_epochs is not set" in said
    assert "score writes" not in said


def test_only_what_is_asked_for_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    scene = load("config/SceneConfigs/graded", [])
    given = {name: scene.values[name].value for name in ("do_train", "do_eval", "do_predict")}
    assert given == {"do_train": False, "do_eval": False, "do_predict": True}
    assert scene.values["predict_dir"].value == str(Path("Data/graded").resolve())
    assert scene.values["model"].value == str(Path("model").resolve())
    assert "graded:6: do_predict: what is not asked for beside it stays off" in " ".join(scene.notes)
    assert "graded:7: output_mapping is left out: nothing in this scene reads it" in " ".join(scene.notes)
    trains = load("config/SceneConfigs/bart_generation", ["--do_train"])
    assert (trains.values["do_train"].value, trains.values["do_predict"].value) == (True, False)
    assert trains.values["do_eval"].value == "auto"
    assert (trains.values["save_strategy"].value, trains.values["eval_strategy"].value) == ("steps", "steps")
    assert (trains.values["target_max_length"].value, trains.values["max_new_tokens"].value) == (24, 24)
    own = load("config/SceneConfigs/graded", ["--predict_dir", "Data/many.txt", "--do_eval"])
    assert own.values["predict_dir"].value == str(Path("Data/many.txt").resolve())
    assert own.values["do_eval"].value is True
    new = load("config/SceneConfigs/bart_generation", ["--do_train", "--predict_dir", "Data/pairs.txt"])
    assert new.values["do_predict"].value == "auto"


def test_metrics_are_told_of_where_something_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "config/SceneConfigs/bart_generation", "--do_predict"]) == 0
    said = capsys.readouterr().out.partition("what differs from the original:")[2]
    assert "one file in the order of the input" in said
    assert "bleu" not in said
    assert "num_labels" not in said


def test_a_model_whose_name_begins_with_local() -> None:
    scene = load("config/SceneConfigs/twins", [])
    assert scene.values["model"].value == "local"
    assert "means previous_dir" in " ".join(scene.notes)


def test_a_file_lies_beside_the_scene_or_in_the_working_folder() -> None:
    Path("config/SceneConfigs/Data").mkdir()
    Path("config/SceneConfigs/Data/many.txt").write_text("sky\tblue\n")
    scene = load("config/SceneConfigs/tagged", [])
    assert scene.values["train_dir"].value == str(Path("config/SceneConfigs/Data/many.txt").resolve())
    assert load("config/SceneConfigs/twins", []).values["train_dir"].value == str(Path("Data/pairs.txt").resolve())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--task seq2sec", "no model is called 'seq2sec'; did you mean 'seq2seq'?"),
        ("--task seq2label --sav_steps 5", "old:1: sav_steps: there is no such setting; did you mean 'save_steps'?"),
        ("--task seq2label --num_beams 4", "old:1: num_beams is an option of model 'causal_lm'"),
        (
            "--task seq2label --from_tf",
            "old:1: from_tf: there is no such setting here: Transformers reads no TensorFlow",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("old").write_text(text)
    assert main(["check", "old"]) == 2
    assert says in capsys.readouterr().err


def test_a_scene_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "run"):
        assert main([command, "sentimant"]) == 2
        assert "no scene is called 'sentimant'" in capsys.readouterr().err


def test_the_defaults_are_settings() -> None:
    tasks = [
        load(None, ["--task", task, "--train_model_header", "s2s_tokenize:a:b"])
        for task in ("seq2seq", "guided_seq2seq", "seq2label")
    ]
    names = {name for scene in tasks for name in scene.values}
    assert {*DEFAULTS, *GENERATION} <= names
    unsaid = [name for name in DEFAULTS if all(not s.values[name].value for s in tasks if name in s.values)]
    assert set(unsaid) == set(HERE)
