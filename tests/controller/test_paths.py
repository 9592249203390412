"""Which plugins in other processes jobs may name, however they are written."""

import asyncio
from pathlib import Path

import pytest
from serving import SCENE, write_data

from deepgen.controller.admission import Admission, Admitted, Roots
from deepgen.controller.refusals import Refusal
from deepgen.v1.job_pb2 import JobSpec

SERVER = "grpc://127.0.0.1:9"
STUDENT = """
task: seq2softlabel
plugin: [grpcs://teacher:1]
train_header: text
train_model_header: cls_tokenize:text:tokens,taught:text:labels
predict_model_header: cls_tokenize:text:tokens
elsewhere:
  grpcs://teacher:1:
  - '{"kind": "PROCESSOR", "name": "taught"}'
"""
OUTSIDE = "is outside what this server allows"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def examine(data: Path, spec: JobSpec, plugins: bool = True) -> Admitted:
    roots = Roots((data,), (data / "scenes",), (data / "plugins",) if plugins else (), (SERVER,) if plugins else ())
    admission = Admission(roots)
    try:
        return asyncio.run(admission.admit(spec))
    finally:
        admission.close()


def refusal(data: Path, spec: JobSpec, plugins: bool = True) -> str:
    with pytest.raises(Refusal) as caught:
        examine(data, spec, plugins)
    return str(caught.value)


def letters(plugin: str) -> JobSpec:
    return JobSpec(scene="letters", overrides={"plugin": plugin})


@pytest.mark.parametrize(
    "endpoint",
    [
        *("exec:/bin/true", "exec:sh", "exec:", "unix:/run/x.sock", "own.py"),
        *("grpcs://elsewhere.example.org:1", "grpc://127.0.0.1:10", f"{SERVER}?token_file=/etc/passwd", "grpcs://["),
    ],
)
def test_programs_and_servers_are_refused_unless_they_are_named(data: Path, endpoint: str) -> None:
    for plugins in (False, True):
        assert OUTSIDE in refusal(data, letters(endpoint), plugins)


@pytest.mark.parametrize("endpoint", ["exec:./own", "unix:run/x.sock"])
def test_a_relative_path_in_a_text_is_in_no_folder(data: Path, endpoint: str) -> None:
    spec = JobSpec(inline_scene=f"{SCENE.format(data=data)}plugin: {endpoint}\n")
    assert "is a relative path" in refusal(data, spec)


def test_a_program_in_a_folder_for_plugins_may_be_used(data: Path) -> None:
    (data / "plugins").mkdir()
    told = refusal(data, letters(f"exec:{data}/plugins/own --verbose"))
    assert "plugins/own is no program that can be found" in told


@pytest.mark.parametrize(
    "more", ["/tmp/evil.py", "--plugin=/tmp/evil.py", "DATA/plugins/../rows.tsv", "--f DATA/a.tsv"]
)
def test_a_program_is_given_no_files_of_other_folders(data: Path, more: str) -> None:
    (data / "plugins").mkdir()
    own = f"exec:{data}/plugins/own {data}/plugins/own.py "
    assert f"{OUTSIDE} for plugins" in refusal(data, letters(own + more.replace("DATA", str(data))))


def test_a_server_that_is_named_may_be_asked_however_it_is_written(data: Path) -> None:
    for endpoint in (SERVER, f"{SERVER}/"):
        assert "cannot be reached" in refusal(data, letters(endpoint))


def test_a_model_folder_predicts_without_a_teacher_that_is_not_allowed(data: Path) -> None:
    folder = data / "student"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "scene.yaml").write_text(STUDENT)
    predicts = {"predict_dir": str(data / "rows.tsv"), "predict_header": "text,label"}
    assert OUTSIDE in refusal(data, JobSpec(scene=str(folder), overrides=predicts))
    assert "plugin: []" in examine(data, JobSpec(scene=str(folder), overrides={**predicts, "plugin": ""})).text
    own = {**predicts, "plugin": str(data / "own.py")}
    assert OUTSIDE in refusal(data, JobSpec(scene=str(folder), overrides=own))
