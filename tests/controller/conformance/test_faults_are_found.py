"""Each check can fail: plugins and servers that break one rule are found by the check of that rule."""

from __future__ import annotations

import gc
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepgen.controller.cli import main
from deepgen.controller.conformance import hosted, leaks, living
from deepgen.controller.conformance.server import Server as Checked
from deepgen.controller.conformance.suite import known
from deepgen.controller.plugin_server import server as serving
from deepgen.controller.plugin_server.gate import Gate
from deepgen.controller.plugin_server.identity import Identity
from deepgen.kernel import registry

from . import test_models, twists
from .spoiled_calls import TWISTS

PLUGINS = Path(__file__).with_name("broken_plugins.py")
SLY = Path(__file__).with_name("sly_plugins.py")
SMALL = Path(__file__).with_name("small_plugins.py")
SERVED = (("processor", "convert2floatlist"), ("processor", "tag_tokenize"))


def checked(capsys: pytest.CaptureFixture[str], *words: str, quick: bool = True) -> list[dict[str, Any]]:
    """What a suite finds, a dict an outcome."""
    code = main(["plugin", "check", *words, *(["--quick"] if quick else []), "-o", "json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == int(any(one["result"] == "failed" for one in found))
    return found


def failed(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """The plugins and the checks that they failed."""
    for one in found:
        if one["result"] == "failed":
            assert one["given"]
            assert one["came"]
            assert one["right"]
    return {(one["plugin"], one["check"]) for one in found if one["result"] == "failed"}


def test_a_broken_plugin_is_found_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    found = failed(checked(capsys, str(PLUGINS), "--over", "process"))
    broken = vars(sys.modules[registry.find("metric", "metric_keys").plugin.__module__])["BROKEN"]
    here = set(broken.items())
    assert here <= found
    sound = {check.partition(".")[0] for _, check in here}
    assert {"processor", "draw", "metric", "outputter", "commit", "leak", "describe"} <= sound


@pytest.fixture
def twisted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a server of some plugins whose calls are spoilt; gives its endpoint."""
    started = []

    def start(method: str, twist: Any, *more: tuple[str, Any], offers: Any = SERVED, token: str = "") -> str:
        twisted_methods = dict([(method, twist), *more])

        class Twisted(Gate):
            def _guard(self, name: str, handler: Any) -> Any:
                if spoil := twisted_methods.get(name.rpartition("/")[2]):
                    kinds = ("unary_unary", "unary_stream", "stream_unary")
                    kind = next(kind for kind in kinds if getattr(handler, kind))
                    real = getattr(handler, kind)
                    handler = handler._replace(**{kind: lambda request, context: spoil(request, context, real)})
                return super()._guard(name, handler)

        monkeypatch.setattr(serving, "Gate", Twisted)
        offered = {key: registry.find(*key) for key in offers}
        server = serving.Server(offered, Identity("spoilt"), token=token)
        server.listen(f"unix:{tmp_path}/plugin.sock")
        started.append(server)
        return f"unix:{tmp_path / 'plugin.sock'}"

    yield start
    for server in started:
        server._server.stop(None).wait()
        server.clean()
    twists.STATE.clear()
    gc.collect()  # what is freed later would hide what is kept


def assert_found(check: str, run: Callable[[], Any]) -> None:
    """The check fails; a fault that depends on the moment may escape it once or twice."""
    for _ in range(3):
        outcomes = run()
        if check in {name for _, name in failed(outcomes)}:
            return
    raise AssertionError(outcomes)


@pytest.mark.parametrize("check", TWISTS)
def test_a_broken_server_is_found(
    check: str, twisted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checked, "pid", property(lambda server: os.getpid()))
    monkeypatch.setattr(leaks, "ROOM", 4 << 20)
    endpoint = twisted(*TWISTS[check])
    assert_found(check, lambda: checked(capsys, endpoint, "--only", check))


def test_a_probe_that_waits_is_found(
    twisted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a program with one thread that works for seconds."""
    monkeypatch.setattr(living, "AT_ONCE", 0.4)
    endpoint = twisted("Process", twists.slowly, ("Probe", twists.behind))
    assert ("", "life.probe_while_working") in failed(checked(capsys, endpoint, "--only", "life.probe_while_working"))


def test_a_server_without_a_gate_is_found(
    twisted: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("DEEPGEN_PLUGIN_TOKEN_FILE", str(tmp_path / "token"))
    found = failed(checked(capsys, twisted("Probe", twists.behind), "--only", "handshake.token"))
    assert {name for _, name in found} == {"handshake.token_missing", "handshake.token_wrong"}


def test_a_server_that_guards_only_some_calls_is_found(
    twisted: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Gate._guard
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("DEEPGEN_PLUGIN_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setattr(
        Gate, "_guard", lambda gate, name, call: call if name.endswith("/Process") else guard(gate, name, call)
    )
    found = checked(capsys, twisted("Probe", twists.behind, token="secret"), "--only", "handshake.token")
    assert {name for _, name in failed(found)} == {"handshake.token_missing", "handshake.token_wrong"}
    assert {one["given"] for one in found} == {
        "the call of processor convert2floatlist without a token",
        "the call of processor convert2floatlist with another token",
    }


def test_a_server_is_left_as_it_was(twisted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    left: set[str] = set()

    def configure(request: Any, context: Any, real: Any) -> Any:
        answer = real(request, context)
        if not answer.HasField("failure"):
            left.add(request.instance)
        return answer

    def release(request: Any, context: Any, real: Any) -> Any:
        left.discard(request.instance)
        return real(request, context)

    endpoint = twisted("Configure", configure, ("Release", release), offers=(("metric", "acc"),))
    for group in ("configure", "metric", "concurrent"):
        assert failed(checked(capsys, endpoint, "--only", group)) == set()
    assert left == set()


def test_a_server_that_takes_messages_of_any_size_is_found(
    twisted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "OPTIONS", (("grpc.max_receive_message_length", -1),))
    endpoint = twisted("Probe", twists.behind)
    assert ("", "payload.oversize") in failed(checked(capsys, endpoint, "--only", "payload.oversize"))


def test_a_server_that_takes_only_small_messages_is_found(
    twisted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC's own limit is 4 MiB."""
    monkeypatch.setattr(serving, "OPTIONS", ())
    endpoint = twisted("Probe", twists.behind)
    assert ("", "payload.parts") in failed(checked(capsys, endpoint, "--only", "payload.parts"))


ENDS = {
    "life.start": "silent",
    "life.restart": "other",
    "life.token_of_its_own": "open",
    "life.shutdown": "deaf",
    "life.shutdown_repeated": "once",
    "life.shutdown_finishes": "hasty",
    "life.sigterm": "three",
    "life.host_gone": "orphan",
    "life.host_gone_while_working": "orphan",
}
"""By check: how a program goes wrong that is found by it."""


@pytest.mark.parametrize("check", ENDS)
def test_a_program_that_ends_wrongly_is_found(
    check: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(living, "SECONDS_TO_END", 1.0)
    program = Path(__file__).with_name("broken_program.py")
    endpoint = f"exec:{sys.executable} {program} {ENDS[check]} {SMALL}"
    assert_found(check, lambda: checked(capsys, endpoint, "--only", check))


@pytest.mark.parametrize(
    ("plugin", "over", "check"),
    [
        ("processor never_works", "process", "processor.split_invariance"),
        ("processor never_made", "process", "configure.defaults"),
        ("metric spends", "process", "metric.pure"),
        ("outputter stays_open", "wire", "cancel.assemble"),
    ],
)
def test_a_plugin_that_is_overlooked_easily_is_found(
    plugin: str, over: str, check: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (plugin, check) in failed(checked(capsys, str(SLY), "--over", over, "--only", check))


def test_what_has_nothing_to_look_at_does_not_pass(
    twisted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.load_file(str(SLY))
    endpoint = twisted("Probe", twists.behind, offers=(("processor", "never_works"),))
    for group in ("payload.shared", "payload.garbage", "payload.wrong_columns", "concurrent"):
        assert {one["result"] for one in checked(capsys, endpoint, "--only", group)} == {"skipped"}
    monkeypatch.setattr(hosted, "descendants", lambda root: [])
    for check in ("host.killed", "host.exactly_once"):
        found = failed(checked(capsys, str(SMALL), "--over", "wire", "--only", check))
        assert found == {("", check)}, "nothing was killed"


def test_a_leak_behind_a_script_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    serve = f"{sys.executable} -m deepgen.controller.cli plugin serve {Path(__file__).with_name('leaking_plugin.py')}"
    words = (f"exec:sh -c '{serve}; exit $?'", "--only")
    assert failed(checked(capsys, *words, "leak.batches", quick=False)) == {("processor keeps", "leak.batches")}
    assert failed(checked(capsys, *words, "leak.calls")) == {("", "leak.calls")}


RESTARTED = ("commit.exactly_once", "host.killed", "host.exactly_once")
LARGE = ("payload.largest", "payload.parts_large")
ALONE = (
    "life.probe_while_working",
    "handshake.token_missing",
    "handshake.token_wrong",
    "payload.oversize",
    "cancel.assemble",
)
"""Checks with a test of their own above."""


@pytest.mark.parametrize("check", RESTARTED)
def test_an_outputter_that_is_another_after_a_restart_is_found(check: str, capsys: pytest.CaptureFixture[str]) -> None:
    signed = Path(__file__).with_name("signed_plugin.py")
    assert_found(check, lambda: checked(capsys, str(signed), "--over", "wire", "--only", check))


def test_a_large_payload_that_does_not_arrive_is_found(
    twisted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "OPTIONS", ())
    endpoint = twisted("Put", twists.forgetful)
    for check in LARGE:
        assert ("", check) in failed(checked(capsys, endpoint, "--only", check, quick=False))


def test_a_failure_is_no_answer_to_a_large_message(twisted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    registry.load_file(str(SLY))
    endpoint = twisted("Probe", twists.behind, offers=(("processor", "modest"),))
    (found,) = checked(capsys, endpoint, "--only", "payload.largest", quick=False)
    assert found["result"] == "failed"
    assert "MemoryError" in found["came"]


def test_every_check_is_seen_failing() -> None:
    plugins = re.findall(r'@breaks\("([^"]+)"\)', PLUGINS.read_text(encoding="utf-8"))
    assert set(known("")) == {*plugins, *TWISTS, *ENDS, *RESTARTED, *LARGE, *ALONE, *test_models.CHECKS}
