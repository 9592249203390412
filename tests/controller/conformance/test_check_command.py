"""What a person sees of `deepgen plugin check`: lines, exit codes, and mistakes in one line."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.controller.conformance.suite import ORDERED, known
from deepgen.controller.plugin_server.identity import Identity
from deepgen.controller.plugin_server.server import Server
from deepgen.kernel import registry

DOCS = Path(__file__).parents[3] / "docs" / "plugins.md"
SMALL = Path(__file__).with_name("small_plugins.py")


def test_a_file_is_checked_in_groups_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plugin", "check", str(SMALL), "--over", "process", "--only", "outputter", "--quick"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "outputter steady, in this process\n  outputter\n    ✓ split_invariance" in shown
    assert "processor slow" not in shown
    assert "checks passed" in shown.splitlines()[-1]
    assert "failed" not in shown


def test_what_is_wrong_stands_below_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    broken = str(Path(__file__).with_name("broken_plugins.py"))
    assert main(["plugin", "check", broken, "--over", "process", "--only", "metric.keys"]) == 1
    shown = capsys.readouterr().out
    given = "        given  regression: Compute\n        came   the keys hits\n        right  misses, hits first"
    assert given in shown
    assert " failed" in shown
    assert "  ✗ metric.keys  (metric metric_keys, in this process)" in shown.splitlines()


def test_json_has_a_line_for_each_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", "metric:acc", "--over", "process", "--only", "metric.keys", "-o", "json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert {name: told[name] for name in ("check", "plugin", "over", "result")} == {
        "check": "metric.keys",
        "plugin": "metric acc",
        "over": "in this process",
        "result": "passed",
    }


def test_options_are_set_and_those_without_a_use_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plugin", "check", "processor:label_mapping", "--over", "process", "--only", "processor", "-o", "json"]
    assert main([*words, "--options", "label_mapping=bad:0,good:1,odd:2"]) == 0
    found = {one["check"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["processor.class_names"]["result"] == "passed"
    assert found["processor.bad_rows"]["result"] == "passed"


def test_the_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(known(""))
    assert len(listed) >= 40
    assert all(line.endswith(".") for line in listed)
    of_a_class = [check for check in ORDERED if not check.needs_wire and check.of != "model"]
    assert f"has {len(of_a_class)} of the {len(listed)} checks" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "deepgen plugin check takes a file, KIND:NAME or an endpoint"),
        (["nowhere.py"], "deepgen: nowhere.py: no such file; give a Python file with plugins, or KIND:NAME"),
        (["text.txt"], "deepgen: text.txt: not a Python file"),
        (["broken.py"], "deepgen: broken.py cannot be imported: ZeroDivisionError"),
        (["metrics:acc"], "no kind of plugin is called 'metrics'; did you mean 'metric'?"),
        (["model:seq2label"], "deepgen: model 'seq2label' is not served: the ranks build and train its module"),
        (["model:seq2label", "--over", "wire"], "deepgen: model 'seq2label' is not served"),
        (["trainer:no_such"], "is not served: it steers the ranks"),
        (["metric:no_such"], "no metric is called 'no_such'"),
        (["metric:acc", "--only", "handshakes"], "--only handshakes: no check begins so"),
        (["--list", "--only", "handshakes"], "--only handshakes: no check begins so"),
        (["metric:acc", "--over", "air"], "--over air is not one of both, process, wire"),
        (["metric:acc", "--options", "colour"], "--options colour: write NAME=VALUE"),
        (["metric:acc", "--options", "colour=red"], "--options colour: none of these plugins has it"),
        (["metric:f1", "--options", "reference_separator=|", "--over", "process"], "none of these plugins has it"),
        (["metric:acc", "--over", "process", "--only", "life"], "no check whose id begins with 'life'"),
        (["outputter:score", "--options", "score_precision=many"], "is not a whole number"),
        (["exec:/no/such/program"], "deepgen: exec:/no/such/program: /no/such/program is no program"),
        (["exec:"], "deepgen: exec: names no program"),
        (["exec:true", "metric:acc"], "give one endpoint, or files and names of plugins, but not both"),
        (["unix:"], "deepgen: unix: give the path of a socket"),
        (["grpc:"], "deepgen: grpc: give a host and a port"),
        (["unix:relative.sock"], "deepgen: unix:relative.sock: give the path of a socket"),
        (["grpc://example.org:1"], "without TLS only this machine is spoken to"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("some text")
    Path("broken.py").write_text("1 / 0")
    assert main(["plugin", "check", *words]) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""


def _mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a mistake on the command line."""
    assert main(["plugin", "check", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    return line


def test_a_server_that_is_away_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"unix:{tmp_path / 'socket'}"
    away = f"deepgen: {place}: cannot be reached: there is no such socket; is the server running?"
    assert _mistake(capsys, place) == away
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"grpc://127.0.0.1:{free.getsockname()[1]}"
        away = f"deepgen: {place}: cannot be reached: nothing listens there (connection refused)"
        assert _mistake(capsys, place, "-o", "json") == away


def test_a_wrong_token_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPGEN_PLUGIN_TOKEN_FILE", raising=False)
    server = Server({("metric", "acc"): registry.find("metric", "acc")}, Identity("acc"), token="ours")
    server.listen(f"unix:{tmp_path}/socket")
    place, other = f"unix:{tmp_path}/socket", tmp_path / "token"
    other.write_text("another")
    try:
        wanted = "it wants a token; set DEEPGEN_PLUGIN_TOKEN_FILE to the file that holds it"
        assert _mistake(capsys, place) == f"deepgen: {place}: {wanted}"
        monkeypatch.setenv("DEEPGEN_PLUGIN_TOKEN_FILE", str(other))
        assert _mistake(capsys, place) == f"deepgen: {place}: the token in {other} is not that of this plugin"
        other.write_text("ours")
        assert main(["plugin", "check", place, "--only", "handshake.token"]) == 0
        assert "2 checks passed" in capsys.readouterr().out
    finally:
        server._server.stop(None).wait()
        server.clean()


def test_a_program_that_does_not_start_is_a_failed_check(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"exec:{sys.executable} -c 'print(\"no, not today\"); raise SystemExit(3)'"
    assert main(["plugin", "check", command, "--only", "metric"]) == 1
    shown = capsys.readouterr().out
    assert "✗ start" in shown
    assert "exit code 3; it printed: no, not today" in shown


@pytest.mark.parametrize(
    ("command", "came"),
    [
        ("cat", "exit code 0 (a plugin's program listens on the socket that it is told on descriptor"),
        (
            f"{sys.executable} -m deepgen.controller.cli plugin serve none.py",
            "        came   its error: none.py: no such file; give a Python file with plugins, or KIND:NAME\n",
        ),
    ],
)
def test_a_program_that_is_no_plugin(command: str, came: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", f"exec:{command}"]) == 1
    assert came in capsys.readouterr().out


def test_nothing_is_left_of_a_program_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert main(["plugin", "check", str(SMALL), "--over", "wire", "--only", "life.restart", "--quick"]) == 0
    assert list(tmp_path.iterdir()) == []
