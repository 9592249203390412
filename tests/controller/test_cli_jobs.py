"""The commands that speak to a controller: what they send, print and end with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_controller import SCENE, Controller

from deepgen.controller.cli import main

HEEDS_CTRL_C = """
import signal, sys
from deepgen.controller.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
"""The command, also where the tests run in the background of a shell, which has SIGINT ignored."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    home = tmp_path_factory.mktemp("controller")
    data, state = home / "data", home / "deepgen"
    state.mkdir()
    data.mkdir()
    (data / "t.tsv").write_text("a film\t1\nno film\t0\n")
    (data / "films.yaml").write_text(SCENE)
    (data / "waits.json").write_text(json.dumps({"gate": str(data / "never"), "steps": 3}))
    (data / "fails.json").write_text(json.dumps({"exit": {"0": 3}, "error": {"0": "the loss is nan"}}))
    with Controller(state, data) as controller:
        yield controller
        (data / "never").write_text("")


@pytest.fixture(autouse=True)
def _inside(served: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEEPGEN_ADDRESS", "DEEPGEN_TOKEN_FILE", "DEEPGEN_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(served.state.parent))
    monkeypatch.chdir(served.data)


@pytest.fixture
def running(capfd: pytest.CaptureFixture[str]) -> Iterator[str]:
    """A job that runs until it is cancelled."""
    assert main(["submit", "films.yaml", "--label", "told=waits"]) == 0
    name = capfd.readouterr().out.strip()
    assert main(["watch", name, "-o", "json", "--no-wait"]) == 0
    capfd.readouterr()
    yield name
    main(["cancel", name, "--now"])
    capfd.readouterr()


def until(job: str, state: str) -> None:
    """Reads the events of a job up to that state."""
    command = [sys.executable, "-m", "deepgen.controller.cli", "watch", job]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert any(line.split()[4] == state for line in watching.stdout)
        watching.terminate()


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_job_from_submit_to_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "films.yaml", "--num_ranks", "2", "--label", "team=nlp", "--id", "films-1", "-f"]) == 0
    out, err = capfd.readouterr()
    assert out == "rank 0 step 0\n"
    assert err.startswith("films-1 is QUEUED; Ctrl-C leaves it running\n")
    assert err.endswith("films-1  SUCCEEDED\n  deepgen fetch films-1\n")
    assert main(["jobs", "--label", "team=nlp"]) == 0
    out, _ = capfd.readouterr()
    assert re.fullmatch(r"ID +STATE +RANKS +AGE +PROGRESS +REASON\nfilms-1 +SUCCEEDED +2 +\w+\n", out)
    assert main(["logs", "films-1", "--rank", "all"]) == 0
    assert "rank 1 | rank 1 step 0\n" in capfd.readouterr().out
    assert main(["show", "films-1"]) == 0
    out, _ = capfd.readouterr()
    assert "films-1   SUCCEEDED\n" in out
    assert "attempt 1  SUCCEEDED  COMPLETED  slots 0, 1" in out
    assert main(["watch", "films-1"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[4] for line in lines] == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]


def test_submit_prints_the_id_for_programs_and_hints_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "films.yaml", "--id", "hinted"]) == 0
    out, err = capfd.readouterr()
    assert out == "hinted\n"
    assert all(f"  deepgen {command} hinted " in err for command in ("logs -f", "show", "explain", "cancel", "fetch"))


def test_what_is_sent(capfd: pytest.CaptureFixture[str], served: Controller) -> None:
    arguments = ["submit", "films.yaml", "--learning_rate", "1e-4", "--train_dir", "t.tsv", "--priority", "7"]
    arguments += ["--time-limit", "1h30m", "--retries", "0", "--preemptible", "--dry-run", "-o", "json"]
    assert main(arguments) == 0
    job = json.loads(capfd.readouterr().out)
    spec = job["spec"]
    path = str(served.data / "t.tsv")
    assert spec["overrides"] == {"learning_rate": "1e-4", "train_dir": path, "name": "films"}
    assert spec["inline_scene"] == SCENE.replace("train_dir: t.tsv", f'train_dir: "{path}"')
    assert (job["priority"], spec["time_limit"], spec["retry"], spec["preemptible"]) == (
        7,
        "5400s",
        {"max_attempts": 1},
        True,
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("submit", "no scene is named; usage: deepgen submit SCENE [--num_ranks N] [--name value …] [-f] [--wait]"),
        ("submit no.yaml", "scene 'no.yaml': no such file here; give a name (`deepgen scenes --server`) or a file"),
        ("submit a --time-limit soon", "--time-limit soon is not a length of time; write 90s, 30m, 2h or 1h30m"),
        ("submit a --num_ranks no", "--num_ranks = 'no' is not a whole number from 1 on"),
        ("submit a --label x", "--label x is not KEY=VALUE"),
        ("jobs --stat RUNNING", "deepgen jobs does not take '--stat'; did you mean 'state'?"),
        ("jobs --state RUNING", "--state RUNING: there is no such state; did you mean 'RUNNING'?"),
        ("jobs x", "'x' is one word too many; deepgen jobs takes no words; `deepgen show ID` shows one job"),
        ("jobs -n x", "--number x is not a whole number from 1 on"),
        ("jobs -o xml", "-o xml: there is no such form; there are text and json"),
        ("show", "deepgen show takes one job id; `deepgen show --help` tells more"),
        ("logs x --rank one", "--rank one is no rank; give a number from 0 on, `launcher` or `all`"),
        ("logs x --tail 0", "--tail 0 is no number of bytes; write 4096, 64k or 1m"),
        ("cancel x --now --grace 3s", "--now leaves no time, and --grace 3s asks for some; give one of them"),
        ("show x --address [::1]:1", "no controller is running at [::1]:1; start one with `deepgen serve`"),
    ],
)
def test_a_mistake_is_one_line(arguments: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    assert capfd.readouterr().err == f"deepgen: {line}\n"


def test_a_mistake_in_the_scene_names_the_file_here(capfd: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text(SCENE + "learning_rate: fast\n")
    assert main(["submit", "bad.yaml"]) == 2
    err = capfd.readouterr().err
    assert err.startswith("deepgen: bad.yaml:7: learning_rate = 'fast' is not")
    assert err.count("\n") == 1
    assert main(["submit", "films.yaml", "--learning_rat", "1"]) == 2
    assert "did you mean 'learning_rate'?" in capfd.readouterr().err


def test_wait_ends_with_the_exit_code_of_the_job(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "films.yaml", "--label", "told=fails", "--wait"]) == 1
    err = capfd.readouterr().err
    assert "FAILED  the loss is nan\n  deepgen show " in err


def test_suspend_resume_cancel_retry(running: str, capfd: pytest.CaptureFixture[str]) -> None:
    until(running, "RUNNING")
    assert main(["suspend", running]) == 0
    assert capfd.readouterr().out.startswith(f"{running}  SUSPEND")
    until(running, "SUSPENDED")
    assert main(["explain", running]) == 0
    assert capfd.readouterr().out.startswith(f"{running}  SUSPENDED: ")
    assert main(["resume", running]) == 0
    assert main(["cancel", running, "no-such-job", "--now"]) == 2
    out, err = capfd.readouterr()
    assert f"{running}  CANCEL" in out
    assert err.startswith("deepgen: no-such-job: there is no job")
    until(running, "CANCELLED")
    assert main(["retry", running, "--from-scratch"]) == 0
    assert f"{running}  QUEUED" in capfd.readouterr().out


def test_ctrl_c_leaves_the_job_running(running: str, capfd: pytest.CaptureFixture[str]) -> None:
    until(running, "RUNNING")
    command = [sys.executable, "-c", HEEDS_CTRL_C, "logs", "-f", running]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "rank 0 step 0\n", follower.communicate()
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate()
    assert follower.returncode == 130
    assert f"the job goes on; `deepgen logs -f {running}` comes back to it" in err
    assert main(["show", running, "-o", "json"]) == 0
    assert objects(capfd.readouterr().out)[0]["state"] == "RUNNING"


def test_json_is_one_object_a_line(running: str, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["jobs"],
        ["jobs", "--all"],
        ["show", running],
        ["watch", "--after", "0", "--no-wait"],
        ["scenes"],
    ):
        assert main([*arguments, "-o", "json"]) == 0
        assert objects(capfd.readouterr().out)
    assert main(["explain", running, "-o", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["state"] in ("QUEUED", "STARTING", "RUNNING")


def test_fetch(capfd: pytest.CaptureFixture[str], served: Controller, tmp_path: Path) -> None:
    assert main(["submit", "films.yaml", "--id", "fetched", "--wait"]) == 0
    run = served.state / "jobs" / "fetched" / "run"
    (run / "model").mkdir(parents=True, exist_ok=True)
    (run / "model" / "weights").write_bytes(os.urandom(3_000_000))
    (run / "metrics.json").write_text("{}")
    (run / "empty").write_text("")
    capfd.readouterr()
    assert main(["fetch", "fetched", "--list"]) == 0
    assert "3,000,000  model/weights" in capfd.readouterr().out
    to = tmp_path / "here"
    # A part of an earlier try, and one that belongs to something else.
    (to / "model").mkdir(parents=True)
    (to / "model" / ".weights.part").write_bytes((run / "model" / "weights").read_bytes()[:1_000_000])
    (to / ".metrics.json.part").write_text("[")
    assert main(["fetch", "fetched", "--to", str(to)]) == 0
    out, err = capfd.readouterr()
    assert out == f"{to}\n"
    assert {path.name for path in to.rglob("*") if path.is_file()} == {"weights", "metrics.json", "empty"}
    assert (to / "model" / "weights").read_bytes() == (run / "model" / "weights").read_bytes()
    assert (to / "metrics.json").read_text() == "{}"
    assert re.search(r"3 files, 2,000,\d{3} bytes", err)
    assert main(["fetch", "fetched", "model", "--to", str(to)]) == 0
    assert "0 files, 0 bytes, 1 were here already" in capfd.readouterr().err
    assert main(["fetch", "fetched", "gone"]) == 2
    assert "fetched has no file 'gone'" in capfd.readouterr().err


def test_the_plugins_and_scenes_of_the_controller(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "metrics", "--server"]) == 0
    assert capfd.readouterr().out.startswith("metrics\n  acc ")
    assert main(["plugins", "metric", "acc", "--server"]) == 0
    assert capfd.readouterr().out.startswith("metric acc ")
    assert main(["scenes", "--server"]) == 0
    assert re.search(r"^sentiment +\w", capfd.readouterr().out, re.MULTILINE)
    assert main(["scenes", "--server", "sentiment"]) == 0
    assert "task: seq2label\n" in capfd.readouterr().out


def test_completion_knows_the_jobs(running: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "jobs", "cancel"]) == 0
    assert running in capfd.readouterr().out.splitlines()
    assert main(["completion", "jobs", "retry"]) == 0
    assert running not in capfd.readouterr().out.splitlines()
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "completion jobs" in capfd.readouterr().out


def test_bash_completes(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capfd.readouterr().out
    script += 'COMP_WORDS=(deepgen submit --pre) COMP_CWORD=2; _deepgen; echo "${COMPREPLY[@]}"\n'
    script += 'COMP_WORDS=(deepgen su) COMP_CWORD=1; _deepgen; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "--preemptible\nsubmit suspend\n"


def test_the_unit_file(capfd: pytest.CaptureFixture[str], served: Controller) -> None:
    assert main(["serve", "--slots", "2", "--systemd", "--mlflow-uri", "http://a b"]) == 0
    unit = capfd.readouterr().out
    assert f'ExecStart={sys.executable} -m deepgen.controller.cli serve --slots 2 --mlflow-uri "http://a b"\n' in unit
    assert f"WorkingDirectory={served.data}\n" in unit
    assert "KillMode=process\n" in unit
    assert main(["serve", "--allow", "gone", "--systemd"]) == 2
    assert "no such folder" in capfd.readouterr().err
    assert main(["serve", "--plugins", "grpcs://models", "--systemd"]) == 2
    assert "deepgen: --plugins grpcs://models: give a host and a port" in capfd.readouterr().err
