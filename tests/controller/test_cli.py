"""The deepgen command: what it prints and what it ends with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deepgen.controller.cli import COMMANDS, devices, main, predict


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == main(["-h"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name:<9}" in shown for name in COMMANDS)


def test_help_starts_at_once() -> None:
    """What takes time to import is not imported."""
    code = (
        "import sys\nfrom deepgen.controller.cli import main\nassert main(['--help']) == 0\n"
        "assert not {'torch', 'pyarrow', 'numpy', 'yaml', 'google', 'grpc', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_each_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: deepgen {command}")


def test_help_of_run_lists_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text("task: seq2seq\n")
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--zero_stage (one of 0, 1, 2, 3, default 1)" in shown
    assert "--num_beams" not in shown
    assert main(["run", "a.yaml", "--help"]) == 0
    assert "--num_beams" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("deepgen 0.")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chek"], "no command is called 'chek'; did you mean 'check'?"),
        (["qwertz"], f"no command is called 'qwertz'; there are {', '.join(COMMANDS)}"),
        (["run"], "no scene is named; usage: deepgen run SCENE [--num_ranks N] [--name value …]"),
        (["scenes", "x"], "deepgen scenes takes no 'x'; `deepgen check NAME` shows a scene"),
        (["plugins", "metrix"], "no kind of plugin is called 'metrix'; did you mean 'metric'?"),
        (["plugins", "metric", "acuc"], "no metric is called 'acuc'; did you mean 'auc'?"),
        (["plugins", "metric", "acc", "x"], "'x' is one word too many; deepgen plugins takes a kind and a name"),
        (["plugins", "--plugin"], "--plugin has no value; it takes a Python file or an endpoint"),
        (["plugins", "--plugin", "no.py"], "--plugin no.py: no such file"),
        (
            ["plugins", "--plugin", "http://here:1"],
            "--plugin http://here:1: no such file; one in another process is exec:COMMAND, unix:/PATH, "
            "grpcs://HOST:PORT or grpc://127.0.0.1:PORT",
        ),
        (["predict"], f"--from is missing; say which model folder predicts. {predict.USAGE}"),
        (["predict", "--from"], f"--from has no value; {predict.USAGE}"),
        (["predict", "--from", "no"], "--from no: no such folder; give the model folder of a finished run"),
        (
            ["predict", "--from", "."],
            "--from .: no scene.yaml beside a config.json in it; give the model folder of a finished run",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"deepgen: {line}\n"


def test_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{kind}s\n" in shown for kind in ("processor", "model", "metric", "outputter", "trainer"))
    assert main(["plugins", "metrics"]) == 0
    assert capsys.readouterr().out.startswith("metrics\n  acc ")
    assert main(["plugins", "processor", "cls_tokenize"]) == 0
    shown = capsys.readouterr().out
    assert "gives: input_ids (int64), token_type_ids (int64)" in shown
    assert "--source_max_length, --tok_max_length (whole number from 1 on)" in shown


def test_plugins_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        "from dataclasses import dataclass\nfrom deepgen.kernel.contracts import Field, Processor\n"
        "from deepgen.kernel.registry import processor\n\n@processor('mine_of_the_cli')\n@dataclass\n"
        "class Mine(Processor):\n    '''Nothing of note.'''\n    def fields(self):\n"
        "        return (Field(self.output, 'int64'),)\n    def process(self, columns):\n        return {}\n"
    )
    assert main(["plugins", "processor", "--plugin", "mine.py"]) == 0
    assert f"mine_of_the_cli     Nothing of note. ({Path('mine.py').resolve()})" in capsys.readouterr().out


def test_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("scenes").mkdir()
    Path("scenes/my_own.yaml").write_text("# Learns what I want.\ntask: seq2label\n")
    assert main(["scenes"]) == 0
    assert "Learns what I want." in next(line for line in capsys.readouterr().out.splitlines() if "my_own" in line)


def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str], int]]:
    """What the launcher is asked for; it starts nothing and ends with 0."""
    calls: list[tuple[str, list[str], int]] = []

    def launch(reference: str, tokens: list[str], ranks: int) -> int:
        calls.append((reference, tokens, ranks))
        return 0

    monkeypatch.setattr("deepgen.controller.cli.run.launch", launch)
    return calls


def whole_scene(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "scene.yaml").write_text(
        "task: seq2label\ntrain_dir: gone.tsv\ntrain_header: text,label\npredict_header: text\n"
        "train_model_header: cls_tokenize:text:x,convert2int:label:labels\npredict_model_header: cls_tokenize:text:x\n"
    )


def test_predict_needs_nothing_but_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = started(monkeypatch)
    whole_scene(Path("model"))
    Path("new.tsv").write_text("a film\n")
    arguments = ["predict", "--from", "model", "--predict_dir", "new.tsv", "--num_ranks", "2"]
    assert main([*arguments, "--result_file", "out.tsv"]) == 0
    here = Path.cwd()
    tokens = ["--predict_dir", "new.tsv", "--num_ranks", "2", "--result_file", str(here / "out.tsv")]
    assert calls == [(str(here / "model"), tokens, 2)]


def test_predict_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = started(monkeypatch)
    whole_scene(Path("model"))
    assert main(["predict", "--from", "model", "--predict_dir", "-", "--num_ranks", "2"]) == 2
    assert capsys.readouterr().err.startswith(
        "deepgen: --num_ranks is for a file of rows, and these come from standard"
    )
    assert main(["predict", "--from", "model", "--predict_dir", "new.tsv"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not calls


def test_run_checks_and_starts_one_rank_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = started(monkeypatch)
    whole_scene(Path("model"))
    Path("new.tsv").write_text("a film\n")
    monkeypatch.setattr("deepgen.controller.cli.run.count_gpus", lambda: 4)
    assert main(["run", "model", "--predict_dir", "new.tsv"]) == 0
    assert calls == [("model", ["--predict_dir", "new.tsv"], 4)]


def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU 0: x\\nGPU 1: x\\nGPU 2: x\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.count_gpus() == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert devices.count_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.count_gpus() == 0
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert devices.count_gpus() == 0


def test_a_reader_that_leaves_is_no_failure() -> None:
    command = (
        f"{sys.executable} -c 'from deepgen.controller.cli import main; raise SystemExit(main())' plugins | head -1"
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "processors\n"
    assert done.stderr == ""
