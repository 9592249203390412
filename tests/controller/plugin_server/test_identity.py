"""The plugin service over a real socket: handshake, tokens, instances, checks, payloads put aside, the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from plugin_servers import COMMAND, KINDS, Served, Stubs, code_of, inline, launched, rows_of, started

from deepgen.kernel.descriptors import describe, describe_scene
from deepgen.kernel.registry import find
from deepgen.kernel.settings import load
from deepgen.v1 import payload_pb2, processor_service_pb2, scene_pb2
from deepgen.v1 import plugin_service_pb2 as wire

FILE = str(Path(__file__).with_name("served.py"))
SEEN = 600.0
"""Seconds after which something that was to happen is taken not to."""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with started([FILE, "processor:label_mapping", "--shared"]) as found:
        yield found


def test_the_handshake_agrees_on_a_version_and_gives_the_nonce_back(served: Served) -> None:
    answer = served.stubs.plugin.Handshake(
        wire.HandshakeRequest(protocol_versions=[1, 7], features=["x.v9"], nonce=b"\0n")
    )
    assert (answer.protocol_version, answer.nonce, answer.probe) == (1, b"\0n", b"")
    assert {"payload.parts.v1", "payload.shared_memory.v1"} <= set(answer.features)
    assert answer.sharing == wire.HandshakeResponse.SHARED
    assert answer.plugin.startswith("served (deepgen ")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            wire.HandshakeRequest(protocol_versions=[2, 3]),
            "the host speaks versions 2, 3 of the protocol and this plugin 1",
        ),
        (wire.HandshakeRequest(), "the host speaks no version of the protocol and this plugin 1"),
        (
            wire.HandshakeRequest(protocol_versions=[1], required_features=["payload.parts.v1", "x.v9"]),
            "the host requires the feature 'x.v9', which this plugin does not have",
        ),
    ],
)
def test_a_handshake_that_cannot_be(served: Served, request_: wire.HandshakeRequest, words: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        served.stubs.plugin.Handshake(request_)
    assert code_of(error) == ("FAILED_PRECONDITION", words)


def test_shared_memory_is_probed_and_no_other_file_is_read(served: Served, tmp_path: Path) -> None:
    memory = os.memfd_create("probe")
    os.write(memory, b"....these bytes")
    (tmp_path / "secret").write_text("these bytes")
    file = os.open(tmp_path / "secret", os.O_RDONLY)

    def probe(path: str, offset: int, length: int) -> bytes:
        place = payload_pb2.SharedMemory(path=path, offset=offset, length=length)
        answer = served.stubs.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1], probe=place))
        found: bytes = answer.probe
        return found

    here = f"/proc/{os.getpid()}/fd"
    assert probe(f"{here}/{memory}", 4, 11) == b"these bytes"
    assert probe(f"{here}/{memory}", 4, 12) == b""
    assert probe(f"{here}/{file}", 0, 11) == b""
    assert probe(str(tmp_path / "secret"), 0, 11) == b""
    os.close(memory)
    os.close(file)
    assert probe(f"{here}/{memory}", 4, 11) == b""


@pytest.mark.parametrize("token", ["", "another-token"])
def test_every_call_brings_the_token(served: Served, token: str) -> None:
    with grpc.insecure_channel(f"unix:{served.path}") as channel:
        stubs = Stubs(channel, token)
        calls: list[Any] = [
            lambda: stubs.plugin.Probe(wire.ProbeRequest()),
            lambda: stubs.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1])),
            lambda: stubs.plugin.Shutdown(wire.ShutdownRequest()),
            lambda: stubs.plugin.Put(iter([wire.PutRequest(data=b"x")])),
            lambda: list(stubs.plugin.Get(wire.GetRequest(key="x"))),
            lambda: stubs.processor.Process(processor_service_pb2.ProcessRequest()),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as error:
                call()
            assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_what_is_described_is_what_the_process_of_a_kernel_would_see(served: Served) -> None:
    plugins = {one.name: one for one in served.stubs.plugin.Describe(wire.DescribeRequest()).plugins}
    assert sorted(plugins) == ["asks", "backwards", "copy", "label_mapping", "lines", "measure", "share", "slow"]
    assert plugins["label_mapping"] == describe(find("processor", "label_mapping"))
    assert list(plugins["measure"].abilities) == ["check", "draw"]
    assert list(plugins["backwards"].abilities) == ["assemble", "read"]
    assert plugins["measure"].source == FILE


def test_an_instance_is_made_once(served: Served) -> None:
    stubs = served.stubs
    options = {"unit": 2, "names": ["x"]}
    first = stubs.configure("once", "processor", "measure", inputs=["text"], output="size", options=options)
    assert [field.name for field in first.fields] == ["size", "letters"]
    assert (first.fields[1].padding, first.fields[1].mask, first.fields[1].length) == ("7", "there", True)
    assert (list(first.class_names), first.reference_column) == (["x"], "text")
    assert stubs.configure("once", "processor", "measure", inputs=["text"], output="size", options=options) == first
    with pytest.raises(grpc.RpcError) as error:
        stubs.configure("once", "processor", "measure", inputs=["text"], output="other", options=options)
    assert code_of(error)[0] == "ALREADY_EXISTS"
    for _ in range(2):
        stubs.plugin.Release(wire.ReleaseRequest(instance="once"))
    with pytest.raises(grpc.RpcError) as error:
        process(stubs, "once", ["a"])
    assert code_of(error) == ("NOT_FOUND", "no instance is called 'once'; configure it first")
    other = stubs.configure("once", "processor", "measure", inputs=["text"], output="other")
    assert other.fields[0].name == "other"


@pytest.mark.parametrize(
    ("kind", "name", "options", "failure"),
    [
        ("processor", "mesure", {}, ("PluginError", "no processor called 'mesure'; did you mean 'measure'?")),
        ("processor", "measure", {"unitt": 1}, ("PluginError", "no option 'unitt'; did you mean 'unit'?")),
        ("processor", "measure", {"unit": "far"}, ("SceneError", "unit = '\"far\"' is not a number")),
        ("processor", "measure", {"unit": 0.1}, ("SceneError", "unit = '0.1' is below the least value, 0.5")),
        ("processor", "measure", {"mode": "plane"}, ("SceneError", "did you mean 'plain'?")),
        ("model", "seq2label", {}, ("PluginError", "deepgen serve-model FOLDER")),
        ("trainer", "common", {}, ("PluginError", "it steers the ranks of a run from inside")),
    ],
)
def test_what_cannot_be_configured(
    served: Served, kind: str, name: str, options: dict[str, Any], failure: tuple[str, str]
) -> None:
    answer = served.stubs.configure("no", kind, name, inputs=["text"], output="y", options=options)
    assert answer.failure.kind == failure[0]
    assert failure[1] in answer.failure.message


def test_an_option_that_is_no_json_or_comes_without_columns(served: Served) -> None:
    kind = KINDS["processor"]
    request = wire.ConfigureRequest(instance="no", kind=kind, name="measure", inputs=["text"], options={"unit": "{"})
    assert served.stubs.plugin.Configure(request).failure.message == "unit = '{' is no JSON"
    answer = served.stubs.configure("no", "processor", "measure")
    assert answer.failure.message == "processor measure takes 1 columns; 0 were given"
    with pytest.raises(grpc.RpcError) as error:
        served.stubs.configure("", "processor", "measure")
    assert code_of(error) == ("INVALID_ARGUMENT", "instance: a name is missing")


def test_check_sees_the_scene(served: Served, tmp_path: Path) -> None:
    stubs = served.stubs
    stubs.configure("check", "processor", "measure", inputs=["text"], output="labels")
    scene = tmp_path / "mine.yaml"
    scene.write_text(
        f"task: seq2label\nplugin: [{FILE}]\ntrain_header: text,label\nunit: 2\n"
        "train_model_header: cls_tokenize:text:tokens,measure:text:labels\n"
    )
    found = describe_scene(load(str(scene), []))
    answer = stubs.plugin.Check(wire.CheckRequest(instance="check", scene=found, splits=["train", "eval"]))
    assert not answer.HasField("failure")
    assert list(answer.notes) == ["mine: train,eval", f"{scene}:4: unit"]
    found = describe_scene(load(str(scene), ["--seed", "13"]))
    answer = stubs.plugin.Check(wire.CheckRequest(instance="check", scene=found, splits=["train"]))
    assert (answer.failure.kind, answer.failure.message) == ("SceneError", "seed is unlucky")


def test_a_scene_with_plugins_that_are_elsewhere_is_let_pass(served: Served) -> None:
    """What a check needs of another plugin, such as its classes, is only known where that is."""
    stubs = served.stubs
    stubs.configure("asks", "outputter", "asks")
    scene = scene_pb2.Scene(name="x", plugins=[scene_pb2.PluginReference(kind="processor", name="theirs")])
    scene.settings.add(name="train_model_header", value="theirs:text:labels", declared_by="kernel")
    scene.settings.add(name="train_header", value="text", declared_by="kernel")
    scene.settings.add(name="new", value="from a later version", declared_by="kernel")
    answer = stubs.plugin.Check(wire.CheckRequest(instance="asks", scene=scene, splits=["train"]))
    assert not answer.HasField("failure")
    (note,) = answer.notes
    assert note == "outputter 'asks' could not check the scene where it runs, without processor 'theirs'"


def test_what_a_plugin_itself_says_is_no_note_where_others_are_elsewhere(served: Served) -> None:
    stubs = served.stubs
    stubs.configure("alone", "processor", "measure", inputs=["text"], output="labels")
    scene = scene_pb2.Scene(name="x", plugins=[scene_pb2.PluginReference(kind="processor", name="theirs")])
    scene.settings.add(name="seed", value="14", declared_by="kernel")
    answer = stubs.plugin.Check(wire.CheckRequest(instance="alone", scene=scene, splits=["train"]))
    assert (answer.failure.kind, answer.failure.message) == ("PluginError", "package lucky is not installed")


def test_an_error_with_another_plugin_that_is_here_is_no_note(served: Served) -> None:
    stubs = served.stubs
    stubs.configure("asks too", "outputter", "asks")
    for header, kind in (("theirs:text:labels", ""), ("basic:text:labels,nowhere:text:more", "PluginError")):
        scene = scene_pb2.Scene(name="x", plugins=[scene_pb2.PluginReference(kind="processor", name="theirs")])
        scene.settings.add(name="train_model_header", value=header, declared_by="kernel")
        scene.settings.add(name="train_header", value="text", declared_by="kernel")
        answer = stubs.plugin.Check(wire.CheckRequest(instance="asks too", scene=scene, splits=["train"]))
        assert answer.failure.kind == kind


def test_payloads_are_put_aside_in_pieces_and_given_once(served: Served) -> None:
    stubs = served.stubs
    whole = os.urandom(9 << 20)
    pieces = [wire.PutRequest(data=whole[start : start + (4 << 20)]) for start in range(0, len(whole), 4 << 20)]
    key = stubs.plugin.Put(iter(pieces)).key
    given = [one.data for one in stubs.plugin.Get(wire.GetRequest(key=key))]
    assert b"".join(given) == whole
    assert max(map(len, given)) == 4 << 20
    with pytest.raises(grpc.RpcError) as error:
        list(stubs.plugin.Get(wire.GetRequest(key=key)))
    assert code_of(error)[0] == "NOT_FOUND"
    with pytest.raises(grpc.RpcError) as error:
        stubs.plugin.Put(iter([wire.PutRequest(data=bytes((4 << 20) + 1))]))
    assert code_of(error)[0] == "INVALID_ARGUMENT"


def test_it_is_probed_while_every_instance_works(tmp_path: Path) -> None:
    with started([FILE]) as served:
        stubs = served.stubs
        calls = [slowly(stubs, str(number), 1.0, tmp_path / str(number)) for number in range(2)]
        calls += [send(stubs, str(number), ["four"]) for number in range(2)]  # each instance takes one at a time
        assert stubs.plugin.Probe(wire.ProbeRequest()).ready
        assert not any(call.done() for call in calls)
        answers = [call.result() for call in calls]
        assert [rows_of(answer.fields).column(0).to_pylist() for answer in answers] == [[4]] * 4


@pytest.mark.parametrize("how", ["Shutdown", "SIGTERM"])
def test_it_finishes_its_work_and_ends(how: str, tmp_path: Path) -> None:
    with started([FILE]) as served:
        stubs = served.stubs
        call = slowly(stubs, "a", 1.0, tmp_path / "begun")
        if how == "SIGTERM":
            served.process.send_signal(signal.SIGTERM)
        else:
            for _ in range(2):
                stubs.plugin.Shutdown(wire.ShutdownRequest())
        wait(lambda: not stubs.plugin.Probe(wire.ProbeRequest()).ready)
        assert stubs.plugin.Probe(wire.ProbeRequest()).why == "it is ending"
        with pytest.raises(grpc.RpcError) as error:
            process(stubs, "a", ["x"])
        assert code_of(error) == ("UNAVAILABLE", "the plugin is ending")
        assert rows_of(call.result().fields).column(0).to_pylist() == [4]
        assert served.process.wait(SEEN) == 0
        assert not Path(served.path).exists()


def test_it_ends_at_once_when_its_host_is_gone(tmp_path: Path) -> None:
    with started([FILE]) as served:
        call = slowly(served.stubs, "a", 2 * SEEN, tmp_path / "begun")
        served.host.close()
        served.process.wait(SEEN)
        with pytest.raises(grpc.RpcError) as error:
            call.result()
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("words", "versions", "error"),
    [
        ([FILE], [2], "the host speaks version 2 of the protocol and this plugin 1"),
        (["no.py"], [1], "no.py: no such file; give a Python file with plugins, or KIND:NAME"),
        (["metric:rougge"], [1], "no metric is called 'rougge'; did you mean 'rouge'?"),
        (["model:seq2label"], [1], "model 'seq2label' is not served: the ranks build and train its module"),
    ],
)
def test_the_host_is_told_why_it_cannot_serve(words: list[str], versions: list[int], error: str) -> None:
    with launched([*COMMAND, *words], versions=versions) as (child, host, _):
        assert json.loads(host.makefile("rb").readline())["error"].startswith(error)
        assert child.wait(SEEN) == 2


def test_the_host_is_told_of_a_plugin_that_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(Path(FILE).read_text().replace('return (Field(self.output, "int64"),)', "return self.out"))
    with launched([*COMMAND, str(file)]) as (child, host, _):
        error = json.loads(host.makefile("rb").readline())["error"]
        words = "cannot say what it is: AttributeError: 'Slow' object has no attribute 'out'"
        assert error == f"processor 'slow' of {file} {words}"
        assert child.wait(SEEN) == 2


def test_by_hand_it_says_how_it_is_used() -> None:
    done = subprocess.run([*COMMAND, FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --listen unix:/PATH" in done.stderr


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + SEEN
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def slowly(stubs: Stubs, name: str, seconds: float, begun: Path) -> Any:
    """A call that takes so long, and has begun."""
    options = {"seconds": seconds, "begun": str(begun)}
    stubs.configure(name, "processor", "slow", inputs=["text"], output="n", options=options)
    call = send(stubs, name, ["four"])
    wait(begun.exists)
    return call


def process(stubs: Stubs, instance: str, texts: list[str]) -> processor_service_pb2.ProcessResponse:
    answer: processor_service_pb2.ProcessResponse = send(stubs, instance, texts).result()
    return answer


def send(stubs: Stubs, instance: str, texts: list[str]) -> Any:
    """The call, which is under way."""
    columns = inline({"text": pa.array(texts, pa.string())})
    return stubs.processor.Process.future(processor_service_pb2.ProcessRequest(instance=instance, columns=columns))
