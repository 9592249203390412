"""Where a plugin server listens, who gets in, and how little it needs to be installed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from certificates import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from plugin_servers import COMMAND, TOKEN, Stubs, code_of, inline, rows_of, started

from deepgen.controller.listening import listen
from deepgen.kernel.connections import Connection
from deepgen.kernel.descriptors import describe_scene
from deepgen.kernel.errors import PluginError, UserError
from deepgen.kernel.settings import load
from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1 import processor_service_pb2

FILE = str(Path(__file__).with_name("served.py"))
LIGHT = """
import sys
from importlib.machinery import PathFinder
there, absent = PathFinder.find_spec, {names}
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in absent else there(name, *more)
from deepgen.controller.cli import main
sys.exit(main(["plugin", "serve", {file!r}]))
"""
HEAVY = (
    "torch deepspeed transformers datasets mlflow sklearn sacrebleu rouge_score xxhash tqdm ninja matplotlib psutil "
    "grpc_health grpc_reflection grpc_status google.rpc peft tokenizers safetensors scipy pandas"
)
"""What DeepGen depends on, and the environment of a plugin need not have."""


@contextmanager
def by_hand(*arguments: str) -> Iterator[str]:
    """A server that was started on the command line; gives its address."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.startswith("serving at "), process.communicate(timeout=60)
            yield line.removeprefix("serving at ").partition(";")[0]
        finally:
            process.terminate()
            assert process.wait(600) == 0


def test_a_socket_is_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "100%20 of it?.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # of a server that was killed
    with by_hand(FILE, "--listen", f"unix:{path}") as address:
        assert address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        there = Connection(address)
        assert not there.link.is_shared
        assert there.link.shares_memory
        there.end()
        done = subprocess.run(
            [*COMMAND, FILE, "--listen", address], capture_output=True, text=True, check=False, timeout=600
        )
        assert (done.returncode, done.stderr) == (2, f"deepgen: {address}: a server listens there already\n")


def test_a_socket_may_want_a_token_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with by_hand(FILE, "--listen", f"unix:{tmp_path}/p.sock", "--token-file", str(token)) as address:
        with pytest.raises(PluginError, match="wants a token; set DEEPGEN_PLUGIN_TOKEN_FILE to the file that holds it"):
            Connection(address)
        monkeypatch.setenv("DEEPGEN_PLUGIN_TOKEN_FILE", str(token))
        Connection(address).end()


def test_a_socket_of_another_type_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:  # as that of a log
        log.bind(str(path))
        with pytest.raises(UserError, match="Protocol wrong type for socket; give another path"):
            listen(grpc.server(ThreadPoolExecutor(1)), f"unix:{path}")
    assert path.exists()


def test_health_and_reflection(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    with by_hand(FILE, "--listen", "grpc://127.0.0.1:0", "--token-file", str(token)) as address:
        with grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
            asked = health_pb2.HealthCheckRequest(service="deepgen.v1.PluginService")
            assert health_pb2_grpc.HealthStub(channel).Check(asked).status == health_pb2.HealthCheckResponse.SERVING
            listing: Any = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            question = reflection_pb2.ServerReflectionRequest(list_services="")
            with pytest.raises(grpc.RpcError) as error:
                list(listing(iter([question])))
            assert code_of(error)[0] == "UNAUTHENTICATED"
            (answer,) = listing(iter([question]), metadata=[("authorization", f"Bearer {TOKEN}")])
            names = {service.name for service in answer.list_services_response.service}
            assert {"deepgen.v1.PluginService", "deepgen.v1.OutputterService"} <= names


def test_other_machines_need_tls_and_a_token(tmp_path: Path) -> None:
    certificate, key = Authority.make(tmp_path / "ca").issue("plugins")
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(token))
    with by_hand(FILE, "--listen", "grpcs://127.0.0.1:0", *tls) as address:
        credentials = grpc.ssl_channel_credentials((tmp_path / "ca" / "authority.pem").read_bytes())
        with grpc.secure_channel(address.removeprefix("grpcs://"), credentials) as channel:
            with pytest.raises(grpc.RpcError) as error:
                Stubs(channel, "").plugin.Probe(wire.ProbeRequest())
            assert code_of(error)[0] == "UNAUTHENTICATED"
            answer = Stubs(channel).plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1]))
            assert "payload.shared_memory.v1" not in answer.features


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tcp://127.0.0.1:1"], "give unix:/PATH, grpcs://HOST:PORT or grpc://127.0.0.1:PORT"),
        (["grpc://0.0.0.0:0"], "can be reached from other machines, so it needs TLS"),
        (["grpcs://0.0.0.0:0"], "--tls-cert and --tls-key belong to --listen grpcs://HOST:PORT, which needs both"),
        (["grpcs://0.0.0.0:0", "--tls-cert", FILE, "--tls-key", FILE], "give --token-file"),
        (["unix:/x", "--tls-cert", FILE, "--tls-key", FILE], "belong to --listen grpcs://HOST:PORT"),
        (["unix:/no/such/folder/x.sock"], "cannot be listened on: there is no folder /no/such/folder"),
        ([f"unix:{FILE}"], "is a file that is no socket"),
        (["unix:/" + "x" * 107], "is longer than 107 bytes"),
        (["unix:/x", "--token-file", FILE], "others may read or change it"),
        (["unix:/x", "--token-file", "no"], "--token-file no: no such file"),
    ],
)
def test_addresses_that_are_refused(arguments: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    from deepgen.controller.cli import main

    assert main(["plugin", "serve", FILE, "--listen", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_an_address_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [*COMMAND, FILE, "--listen", f"grpc://{address}"],
            capture_output=True,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"},
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"deepgen: {address} cannot be listened on")


def test_an_environment_of_its_own_needs_little(tmp_path: Path) -> None:
    scene = tmp_path / "mine.yaml"
    header = "train_header: text\ntrain_model_header: measure:text:labels\n"
    scene.write_text(f"task: seq2label\nplugin: [{FILE}]\n{header}")
    message = describe_scene(load(str(scene), []))
    command = [sys.executable, "-c", LIGHT.format(names=HEAVY.split(), file=FILE)]
    with started([], command=command) as served:
        stubs = served.stubs
        assert (
            "processor.tokenizer.v1"
            not in stubs.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1])).features
        )
        assert len(stubs.plugin.Describe(wire.DescribeRequest()).plugins) == 7
        stubs.configure("a", "processor", "measure", inputs=["text"], output="labels")
        columns = inline({"0": pa.array(["four"])})
        answer = stubs.processor.Process(processor_service_pb2.ProcessRequest(instance="a", columns=columns))
        assert rows_of(answer.fields).column("labels").to_pylist() == [4]
        checked = stubs.plugin.Check(wire.CheckRequest(instance="a", scene=message, splits=["train"]))
        assert list(checked.notes) == ["mine: train", "unit"]
