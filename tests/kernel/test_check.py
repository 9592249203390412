"""A scene that cannot run is refused in one line; one that can is let through, and nothing heavy is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from broken_scenes import BROKEN, CLASSIFIER, FILES, WRITER, Broken

from deepgen.controller.cli import main
from deepgen.kernel.check import examine
from deepgen.kernel.errors import SceneError
from deepgen.kernel.settings import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "void").mkdir()
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def write(scene: Broken) -> None:
    settings = {**scene.base, **scene.changes}
    text = "".join(f"{name}: {value}\n" for name, value in settings.items() if value is not None)
    content = text if scene.text is None else scene.text
    Path("scene.yaml").unlink(missing_ok=True)
    Path(scene.file if scene.file != "scen.yaml" else "scene.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


@pytest.mark.parametrize("scene", BROKEN, ids=lambda scene: scene.name)
def test_refused(scene: Broken, capsys: pytest.CaptureFixture[str]) -> None:
    write(scene)
    assert main(["check", scene.file, *scene.tokens]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("deepgen: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    assert scene.place in errors
    assert scene.remedy in errors


def test_enough_mistakes() -> None:
    assert len(BROKEN) >= 60
    assert len({scene.name for scene in BROKEN}) == len(BROKEN)


@pytest.mark.parametrize("base", [CLASSIFIER, WRITER], ids=["classifier", "writer"])
def test_the_bases_are_whole(base: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    write(Broken("", "", "", base=base))
    assert main(["check", "scene.yaml", "--rows", "2"]) == 0
    assert "rows: the first 2 of train are read, 0 are bad" in capsys.readouterr().out


def test_no_value_of_any_setting_ends_in_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    write(Broken("", "", ""))
    for name in load("scene.yaml", []).values:
        for value in ("[a, b]", "{a: {b: 1}}", "-1", "9" * 30, ":", "void"):
            write(Broken("", "", "", {name: value}))
            code = main(["check", "scene.yaml"])
            errors = capsys.readouterr().err
            assert (code, errors.count("\n")) in ((0, 0), (2, 1)), (name, value)


def test_values_and_their_origins_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    write(Broken("", "", ""))
    assert main(["check", "scene.yaml", "--seed", "7", "--no_group_by_length"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["task", "seq2label", "scene.yaml:1"] in lines
    assert ["seed", "7", "command", "line"] in lines
    assert ["group_by_length", "false", "command", "line"] in lines
    assert ["zero_stage", "1", "default"] in lines
    assert "task: seq2label learns single_label_classification: labels are whole numbers\n" in shown


def test_the_resolved_scene_as_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    write(Broken("", "", ""))
    assert main(["check", "scene.yaml", "--json", "--seed", "7"]) == 0
    settings = {setting["name"]: setting for setting in json.loads(capsys.readouterr().out)["settings"]}
    assert settings["seed"] == {
        "name": "seed",
        "value": "7",
        "origin": {"kind": "COMMAND_LINE"},
        "declared_by": "kernel",
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"eval_dir": None}, "eval_dir is not set"), ({"do_eval": "false"}, "scene.yaml:9: do_eval is false")],
)
def test_metrics_without_effect_are_noted_with_the_cause(
    changes: dict[str, str | None], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Broken("", "", "", changes))
    assert main(["check", "scene.yaml"]) == 0
    assert f"eval_metrics: nothing is scored, as {why}\n" in capsys.readouterr().out


def test_the_first_rows_show_a_bad_one(capsys: pytest.CaptureFixture[str]) -> None:
    write(Broken("", "", "", {"train_dir": "odd.tsv"}))
    Path("odd.tsv").write_text("fine\t1\npoor\tnone\n")
    assert main(["check", "scene.yaml", "--rows", "1"]) == 0
    assert main(["check", "scene.yaml", "--rows", "2"]) == 2
    assert "odd.tsv:2: label = 'none' is not a whole number" in capsys.readouterr().err
    assert main(["check", "scene.yaml", "--rows", "2", "--bad_rows", "skip"]) == 0
    assert "1 are bad" in capsys.readouterr().out


def test_an_old_scene_runs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("old").write_text(
        "--task seq2label \\\n--model model --train_dir train.tsv\n--train_header text,label\n"
        "--train_model_header cls_tokenize:text:x,convert2int:label:labels\n--remove_unused_columns False\n bo\n"
    )
    assert main(["check", "old"]) == 0
    shown = capsys.readouterr().out
    assert "old:6: 'bo' follows no setting and is left out" in shown
    assert "old:5: remove_unused_columns is left out" in shown


def test_the_readme_header_of_the_original() -> None:
    Path("three").write_text("red car\ta car that is red\t0.5,0.25\n")
    tokens = ["--task", "seq2label", "--model", "model", "--train_dir", "three", "--train_header", "query,doc,labels"]
    tokens += ["--train_model_header", "cls_tokenize:query:doc:x,convert2floatlist:labels"]
    found = examine(load(None, tokens))
    assert found.problem == "multi_label_classification"
    assert [field.name for field in found.parts["train"].fields.values()] == ["input_ids", "token_type_ids", "labels"]


@pytest.mark.parametrize("form", ["{}:labels", "{}:label:labels"], ids=["two parts", "three parts"])
@pytest.mark.parametrize(
    ("converter", "cell", "problem"),
    [
        ("convert2int", "1", "single_label_classification"),
        ("convert2float", "0.5", "regression"),
        ("convert2floatlist", "0.5 1", "multi_label_classification"),
        ("label_mapping", "1", "single_label_classification"),
        ("convert2multilabel", "1,0", "multi_label_classification"),
    ],
)
def test_both_forms_of_every_converter(form: str, converter: str, cell: str, problem: str) -> None:
    Path("two").write_text(f"a film\t{cell}\n")
    column = "labels" if form == "{}:labels" else "label"
    tokens = ["--task", "seq2label", "--model", "model", "--train_dir", "two", "--train_header", f"text,{column}"]
    tokens += ["--train_model_header", f"cls_tokenize:text:x,{form.format(converter)}"]
    assert examine(load(None, tokens)).problem == problem


def test_max_length_means_two_settings(capsys: pytest.CaptureFixture[str]) -> None:
    write(Broken("", "", "", {"max_length": "20"}, WRITER))
    scene = load("scene.yaml", [])
    assert (scene.values["target_max_length"].value, scene.values["max_new_tokens"].value) == (20, 20)
    assert "max_length is read as target_max_length and max_new_tokens" in scene.notes[0]
    values = load("scene.yaml", ["--max_new_tokens", "8"]).values
    assert (values["target_max_length"].value, values["max_new_tokens"].value) == (20, 8)
    with pytest.raises(SceneError, match="another word for max_new_tokens"):
        load("scene.yaml", ["--max_length", "20", "--max_new_tokens", "8"])
    write(Broken("", "", "", {"max_new_tokens": "8"}, WRITER))
    values = load("scene.yaml", ["--max_length", "20"]).values
    assert (values["target_max_length"].value, values["max_new_tokens"].value) == (20, 20)


def test_nothing_heavy_is_imported() -> None:
    write(Broken("", "", ""))
    code = (
        "import sys\nfrom deepgen.controller.cli import main\n"
        "assert main(['check', 'scene.yaml', '--rows', '2']) == 0\n"
        "heavy = {'torch', 'transformers', 'deepspeed', 'mlflow', 'datasets', 'sklearn', 'grpc'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
