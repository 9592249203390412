"""What an endpoint names: its program or address, the files behind it, and whether it is a server that is allowed."""

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grpcs://[::1:80", "give a host and a port"),
        ("grpcs://host:eighty", "give a host and a port"),
        ("grpcs://host:99999", "give a host and a port"),
        ("grpc://host:80", "without TLS only this machine is spoken to"),
        ("grpcs://host:80?ka=/f", "'ka' is not known behind the '?'"),
        ("grpcs://host:80?ca=", "no such file"),
        ("grpcs://host:80?ca", "no such file"),
        ("unix:run/x.sock", "give the path of a socket"),
        ("exec:'a", "no closing quotation"),
        ("exec:", "names no program"),
    ],
)
def test_an_address_that_is_none(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError) as error:
        parse(absolute(text, tmp_path) if "=" in text else text)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_token_that_no_call_could_bring(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("two words")
    endpoint = parse(f"grpcs://host:80?token_file={file}")
    with pytest.raises(PluginError, match=f"{file} holds no token; one word in ASCII is right"):
        endpoint.token()
    file.write_text(" secret-1\n")
    assert endpoint.token() == "secret-1"


def test_files_that_are_gone_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    endpoint = parse(absolute("grpcs://host:80?ca=file&token_file=file", tmp_path))
    assert (endpoint.ca, endpoint.token_file) == (tmp_path / "file", tmp_path / "file")
    (tmp_path / "file").unlink()
    for read in (endpoint.token, endpoint.authority):
        with pytest.raises(PluginError, match="file cannot be read: No such file or directory"):
            read()
    assert parse("grpcs://host:80").authority() is None
