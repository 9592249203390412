"""What an endpoint names: its program or address, and whether it is a server that is allowed."""

from pathlib import Path

import pytest

from deepgen.kernel.endpoints import absolute, allows, parse
from deepgen.kernel.errors import PluginError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:/run/a?x", "unix:/run/a%3Fx"),
        ("unix:/run/%2e%2e/a b#c", "unix:/run/%252e%252e/a%20b%23c"),
        ("grpc://127.0.0.1:70", "127.0.0.1:70"),
        ("grpc://[::1]:70/", "[::1]:70"),
        ("grpcs://Models.example.org:7451", "models.example.org:7451"),
    ],
)
def test_the_address_is_the_one_that_is_written(text: str, address: str) -> None:
    assert parse(text).address == address


@pytest.mark.parametrize(
    "text", ["grpcs://[::1:70", "grpcs://host", "grpcs://host:70000", "grpcs://host:7/a", "grpc:x"]
)
def test_no_host_and_port(text: str) -> None:
    with pytest.raises(PluginError, match=r"give a host and a port, as in grpcs?://models\.example\.org:7451$"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "grpcs://HOST:70?token_file=/etc/token&ca=/etc/ca",
        "grpcs://host:70/?ca=/etc/ca&token_file=%2Fetc%2Ftoken",
        "grpcs://host:070?ca=/etc/ca",
        "grpcs://host:70",
    ],
)
def test_the_same_server_is_allowed_however_it_is_written(text: str) -> None:
    assert allows("grpcs://host:70?ca=/etc/ca&token_file=/etc/token", text)


@pytest.mark.parametrize(
    "text",
    [
        "grpcs://host:71?ca=/etc/ca",
        "grpcs://host:70@other:70",
        "grpcs://other:70",
        "grpcs://host:70?ca=/etc/token",
        "grpcs://host:70?token_file=/etc/passwd",
        "grpcs://host:70?more=/etc/ca",
        "grpcs://host:70/path",
        "grpc://host:70",
        "unix:/host:70",
        "grpcs://[",
    ],
)
def test_another_server_or_another_file_is_not_allowed(text: str) -> None:
    assert not allows("grpcs://host:70?ca=/etc/ca", text)


def test_transport_is_part_of_the_server() -> None:
    assert allows("grpc://localhost:70", "grpc://localhost:70/")
    assert not allows("grpc://localhost:70", "grpcs://localhost:70")


def test_absolute_endpoints_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.py").touch()
    for text in ("exec:./own.py 'a b'", "exec:node own.py -v", "unix:run/a?x", "grpcs://h:70?ca=own.py", "grpc://h:70"):
        once = absolute(text, tmp_path)
        assert absolute(once, tmp_path / "elsewhere") == once
