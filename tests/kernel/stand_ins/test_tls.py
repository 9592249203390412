"""A plugin on another machine: TLS and a token, and one clear line for whoever has not got them right."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from certificates import Authority
from far_network import far_away

from deepgen.kernel import registry
from deepgen.kernel.connections import Connection
from deepgen.kernel.endpoints import absolute
from deepgen.kernel.errors import PluginError
from deepgen.kernel.stand_ins.loading import load

CLI = (sys.executable, "-m", "deepgen.controller.cli")


@dataclass
class Far:
    """A server with TLS, and the files that belong to it."""

    address: str
    folder: Path
    own: str
    """The name of its processor."""

    def endpoint(self, **files: str) -> str:
        return absolute(f"{self.address}?{'&'.join(f'{name}={file}' for name, file in files.items())}", self.folder)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, files: dict[str, Path]) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("far")
    Authority.make(folder / "other")
    certificate, key = Authority.make(folder / "ca").issue("server")
    for name in ("token", "wrong"):
        (folder / name).touch(0o600)
        (folder / name).write_text(f"a-{name}-of-the-test\n")
    (folder / "empty").touch()
    (folder / "far.py").write_text(files["here"].read_text().replace("here_", "far_"))
    words = ["plugin", "serve", str(folder / "far.py"), "--listen", "grpcs://127.0.0.1:0"]
    more = ["--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(folder / "token")]
    with subprocess.Popen([*CLI, *words, *more], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        yield Far(said.split(";")[0].removeprefix("serving at ").strip(), folder, "far_words")
        process.kill()


def test_a_plugin_behind_tls(far: Far) -> None:
    endpoint = far.endpoint(ca="ca/authority.pem", token_file="token")
    load(endpoint)
    processor = registry.find("processor", far.own).plugin()
    processor.bind(("text",), "out")  # type: ignore[attr-defined]
    assert processor.process([pa.array(["one three"])])["out"].to_pylist() == [[6, 10]]  # type: ignore[attr-defined]


def test_a_network_may_take_its_time(far: Far) -> None:
    with far_away(far.address.removeprefix("grpcs://")) as address:
        endpoint = far.endpoint(ca="ca/authority.pem", token_file="token").replace(far.address, f"grpcs://{address}")
        connection = Connection(endpoint)
        assert far.own in [plugin.name for plugin in connection.link.plugins]
        connection.end()


def test_what_is_told_by_the_environment(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPGEN_PLUGIN_CA", str(far.folder / "ca" / "authority.pem"))
    monkeypatch.setenv("DEEPGEN_PLUGIN_TOKEN_FILE", str(far.folder / "token"))
    connection = Connection(far.address)
    assert far.own in [plugin.name for plugin in connection.link.plugins]
    connection.end()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"ca": "other/authority.pem", "token_file": "token"},
            r"its certificate is not signed by .*other/authority.pem",
        ),
        ({"token_file": "token"}, "its certificate is not signed by anybody that this machine trusts; name the file"),
        ({"ca": "token", "token_file": "token"}, "far.*/token holds no certificates"),
        ({"ca": "ca/authority.pem", "token_file": "wrong"}, "the token in .*/wrong is not that of this plugin"),
        ({"ca": "ca/authority.pem", "token_file": "empty"}, "/empty holds no token; one word in ASCII is right"),
        ({"ca": "ca/authority.pem"}, "it wants a token; name the file that holds it by '.token_file=FILE', or set"),
        ({"ca": "ca/none.pem"}, "ca/none.pem: no such file"),
    ],
)
def test_what_is_wrong_is_said(far: Far, given: dict[str, str], words: str) -> None:
    with pytest.raises(PluginError, match=words) as error:
        Connection(far.endpoint(**given))
    assert str(error.value).startswith(f"--plugin {far.address}?")


def test_other_names_and_plain_connections(far: Far) -> None:
    right = {"ca": "ca/authority.pem", "token_file": "token"}
    named = far.endpoint(**right).replace("127.0.0.1", "localhost")
    with pytest.raises(PluginError, match="its certificate is not of localhost"):
        Connection(named)
    with pytest.raises(PluginError, match="it closed the connection; if it has TLS, write grpcs://"):
        Connection(far.address.replace("grpcs:", "grpc:"))


def test_a_command_says_it_in_one_line(far: Far) -> None:
    done = subprocess.run(
        [*CLI, "check", "sentiment", "--plugin", far.endpoint(ca="other/authority.pem", token_file="token")],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("deepgen: --plugin grpcs://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
