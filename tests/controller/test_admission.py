"""What a job may name: scenes, files, models and plugins inside the folders that the server allows."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from pathlib import Path

import pytest
from serving import SCENE, write_data

from deepgen.controller.admission import Admission, Admitted, Roots
from deepgen.controller.launch import write_scene
from deepgen.controller.refusals import Refusal
from deepgen.kernel.record import resolved_text
from deepgen.kernel.settings import load
from deepgen.v1.job_pb2 import JobSpec

PLUGIN = '''
"""A metric of one's own."""
from dataclasses import dataclass
from deepgen.kernel.contracts import Metric
from deepgen.kernel.registry import metric

print("loud")

@metric("own")
@dataclass
class Own(Metric):
    """Counts nothing."""
    fits = frozenset({"single_label_classification"})
    def keys(self): return ("own",)
    def update(self, predictions): return b""
    def merge(self, states): return b""
    def compute(self, state): return {"own": 0.0}
'''


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def examine(data: Path, spec: JobSpec, *, plugins: bool = False) -> Admitted:
    roots = Roots((data,), (data / "scenes",), (data / "plugins",) if plugins else ())
    admission = Admission(roots)
    try:
        return asyncio.run(admission.admit(spec))
    finally:
        admission.close()


def refusal(data: Path, spec: JobSpec, *, plugins: bool = False) -> Refusal:
    with pytest.raises(Refusal) as caught:
        examine(data, spec, plugins=plugins)
    return caught.value


def inline(data: Path, more: str = "", **replaced: str) -> JobSpec:
    lines = SCENE.format(data=data).splitlines()
    lines = [line for line in lines if line.partition(":")[0] not in replaced]
    lines += [f"{name}: {value}" for name, value in replaced.items() if value]
    return JobSpec(inline_scene="\n".join([*lines, more]) + "\n")


def test_a_scene_by_name_by_path_and_inline_is_the_same(data: Path) -> None:
    named = examine(data, JobSpec(scene="letters", overrides={"seed": "5"}, ranks=2))
    assert named.name == "letters"
    by_path = examine(data, JobSpec(scene=str(data / "scenes" / "letters.yaml"), overrides={"seed": "5"}, ranks=2))
    assert by_path.text == named.text
    sent = inline(data)
    sent.overrides["seed"] = "5"
    admitted = examine(data, sent)
    assert admitted.name == "scene"
    assert f"train_dir: {data}/rows.tsv" in admitted.text
    assert "/deepgen-" not in admitted.text  # no trace of a file of the moment


def test_the_admitted_scene_is_a_scene(data: Path, tmp_path: Path) -> None:
    admitted = examine(data, JobSpec(scene="letters", overrides={"seed": "5"}))
    write_scene(tmp_path / "job", zlib.decompress(admitted.packed).decode())
    scene = load(str(tmp_path / "job" / "scene.yaml"), [])
    assert scene.name == "letters"
    assert scene.values["seed"].value == 5
    assert not scene.values["weight_decay"].is_set
    assert resolved_text(scene)


def test_the_shipped_scenes_are_admitted(data: Path) -> None:
    assert examine(data, JobSpec(scene="pronounce")).name == "pronounce"


def test_nothing_heavy_is_imported(data: Path) -> None:
    import subprocess

    code = (
        "import sys\nfrom pathlib import Path\nfrom deepgen.controller.admission import Admission, Roots\n"
        "from deepgen.v1.job_pb2 import JobSpec\nimport deepgen.controller.server\n"
        f"Admission(Roots((Path({str(data)!r}),))).examine(JobSpec(scene={str(data / 'scenes' / 'letters.yaml')!r}))\n"
        "assert not {'torch', 'transformers', 'datasets', 'mlflow', 'deepspeed'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_dir", "/tmp/x"),
        ("overwrite_output_dir", "true"),
        ("cache_dir", "/tmp/x"),
        ("logging_dir", "/tmp/x"),
        ("mlflow_tracking_uri", "http://user:secret@host"),
        ("num_ranks", "2"),
    ],
)
def test_what_the_server_sets_is_refused(data: Path, name: str, value: str) -> None:
    told = refusal(data, JobSpec(scene="letters", overrides={name: value}))
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "SERVER_SETTING")
    assert told.fields[0][0] == f"job.spec.overrides[{name}]"
    assert "secret" not in str(told)
    told = refusal(data, inline(data, f"{name}: {value}"))
    assert told.fields[0][0] == "job.spec.inline_scene"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_dir", "/etc/passwd"),
        ("eval_dir", "/etc/*.conf"),
        ("predict_dir", "/"),
        ("train_dir", "{data}/../outside/rows.tsv"),
        ("train_dir", "{data}/link/rows.tsv"),
        ("train_dir", "{data}/rows_link.tsv"),
        ("train_dir", "{data}/folder"),
        ("train_dir", "{data}/fold*/*"),
        ("train_dir", "~/rows.tsv"),
        ("train_dir", "{data}/*/../../outside/rows.tsv"),
        ("model", "/etc"),
        ("model", "{data}/link"),
        ("model", "scratch:/etc/passwd"),
        ("model", "scratch:{data}/scratch.yaml"),
        ("model", "package:numpy/../../../../etc"),
        ("model", "package:numpy//etc"),
        ("previous_dir", "/etc"),
        ("deepspeed", "/etc/passwd"),
        ("deepspeed", "{data}/deepspeed.json"),
        ("deepspeed", '{{"flops_profiler": {{"output_file": "/etc/x"}}}}'),
        ("nvme_path", "/mnt"),
        ("result_file", "/etc/motd"),
    ],
)
def test_nothing_leaves_the_allowed_folders(data: Path, tmp_path: Path, name: str, value: str) -> None:
    _outside(data, tmp_path)
    value = value.format(data=data)
    told = refusal(data, JobSpec(scene="letters", overrides={name: value}))
    assert (told.code, told.reason) == ("PERMISSION_DENIED", "OUTSIDE"), told
    assert told.fields[0][0] == f"job.spec.overrides[{name}]"
    assert "a secret row" not in str(told)
    told = refusal(data, inline(data, **{name: f"'{value}'" if value.startswith("{") is False else value}))
    assert told.code == "PERMISSION_DENIED"
    assert told.fields[0][0] == "job.spec.inline_scene"


def _outside(data: Path, tmp_path: Path) -> None:
    """Something to be kept out of, and ways that lead there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "rows.tsv").write_text("a secret row\t1\n")
    (outside / "config.json").write_text('{"model_type": "bert"}')
    (data / "link").symlink_to(outside)
    (data / "rows_link.tsv").symlink_to(outside / "rows.tsv")
    (data / "folder").mkdir()
    (data / "folder" / "rows.tsv").symlink_to(outside / "rows.tsv")
    (data / "scratch.yaml").write_text(f"model_type: bert\ntokenizer: {outside}\n")
    (data / "deepspeed.json").write_text(json.dumps({"tensorboard": {"enabled": True, "output_path": "/etc"}}))


def test_a_link_that_stays_inside_is_followed(data: Path) -> None:
    (data / "again.tsv").symlink_to(data / "rows.tsv")
    assert "rows.tsv" in examine(data, JobSpec(scene="letters", overrides={"train_dir": str(data / "again.tsv")})).text


@pytest.mark.parametrize(
    "scene", ["/etc/passwd", "../x", "scenes/letters.yaml", "{data}/../outside.yaml", "{data}/l.yaml"]
)
def test_a_scene_outside_is_refused(data: Path, scene: str) -> None:
    (data.parent / "outside.yaml").write_text(SCENE.format(data=data))
    (data / "l.yaml").symlink_to(data.parent / "outside.yaml")
    told = refusal(data, JobSpec(scene=scene.format(data=data)))
    assert told.fields[0][0] == "job.spec.scene"


@pytest.mark.parametrize(
    ("name", "value"), [("train_dir", "rows.tsv"), ("model", "../model"), ("model", "scratch:a.yaml")]
)
def test_a_scene_sent_as_text_has_no_relative_paths(data: Path, name: str, value: str) -> None:
    told = refusal(data, inline(data, **{name: value}))
    assert "relative" in str(told)
    assert str(told).startswith("inline_scene:")


def test_a_model_of_the_hub_is_no_path(data: Path) -> None:
    assert "model: google/t5-small" in examine(data, inline(data, model="google/t5-small")).text


@pytest.mark.parametrize("value", ["hub:../x", "hub:/etc", "hub:a/..", "hub:a/b/c"])
def test_a_data_set_of_the_hub_is_no_path(data: Path, value: str) -> None:
    assert "no data set of the hub" in str(refusal(data, JobSpec(scene="letters", overrides={"train_dir": value})))


def test_plugin_files_are_refused_unless_there_is_a_folder_for_them(data: Path) -> None:
    (data / "own.py").write_text("import os\nos._exit(3)\n")  # were it imported, the test would end here
    for spec in (
        JobSpec(scene="letters", overrides={"plugin": str(data / "own.py")}),
        inline(data, f"plugin: {data}/own.py"),
        inline(data, f"plugin: [{data}/own.py]"),
    ):
        for plugins in (False, True):
            told = refusal(data, spec, plugins=plugins)
            assert told.code == "PERMISSION_DENIED"


def test_a_plugin_is_checked_apart(data: Path) -> None:
    (data / "plugins").mkdir()
    (data / "plugins" / "own.py").write_text(PLUGIN)
    overrides = {"plugin": str(data / "plugins" / "own.py"), "eval_metrics": "own", "eval_dir": str(data / "rows.tsv")}
    admitted = examine(data, JobSpec(scene="letters", overrides=overrides), plugins=True)
    assert "plugins/own.py" in admitted.text
    from deepgen.kernel import registry

    assert "own" not in registry.names("metric")
    told = refusal(data, JobSpec(scene="letters", overrides={**overrides, "eval_metrics": "other"}), plugins=True)
    assert told.fields[0][0] == "job.spec.overrides[eval_metrics]"
    told = refusal(data, JobSpec(scene="letters", overrides={**overrides, "train_dir": "/etc/passwd"}), plugins=True)
    assert told.code == "PERMISSION_DENIED"


def test_a_plugin_that_ends_the_process_ends_only_its_check(data: Path) -> None:
    (data / "plugins").mkdir()
    (data / "plugins" / "own.py").write_text("import os\nos._exit(3)\n")
    overrides = {"plugin": str(data / "plugins" / "own.py")}
    told = refusal(data, JobSpec(scene="letters", overrides=overrides), plugins=True)
    assert "with code 3; look at what own.py does" in str(told)


def test_equal_specs_are_checked_once(data: Path) -> None:
    async def check() -> None:
        admission = Admission(Roots((data,), (data / "scenes",)))
        try:
            specs = [JobSpec(scene="letters", overrides={"seed": "1"}, preemptible=bool(n % 2)) for n in range(50)]
            verdicts = await asyncio.gather(*map(admission.admit, specs))
            assert len({id(verdict) for verdict in verdicts}) == 1
            assert await admission.admit(JobSpec(scene="letters", overrides={"seed": "2"})) is not verdicts[0]
            (data / "rows.tsv").unlink()
            wrong = JobSpec(scene="letters", overrides={"seed": "3"})
            for _ in range(2):
                with pytest.raises(Refusal, match="no such file"):
                    await admission.admit(wrong)
        finally:
            admission.close()

    asyncio.run(check())


def test_what_a_crash_has_left_of_a_check_is_gone_at_the_next_start(data: Path, tmp_path: Path) -> None:
    left = tmp_path / ".checked" / "deepgen-x" / "scene.yaml"
    left.parent.mkdir(parents=True)
    left.write_text("task: seq2label")
    admission = Admission(Roots((data,)), tmp_path / ".checked")
    assert not left.exists()
    text = (data / "scenes" / "letters.yaml").read_text()
    assert "task: seq2label" in admission.examine(JobSpec(inline_scene=text)).text
    assert list((tmp_path / ".checked").iterdir()) == []
