"""A plugin that is killed is started again and no row is lost or doubled; rows that end it again and again are bad."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from plugin_servers import is_alive

from deepgen.kernel import connections
from deepgen.kernel.contracts import BadRows
from deepgen.kernel.errors import PluginError, RunError
from deepgen.kernel.stand_ins.loading import load

Both = Callable[..., list[Any]]


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_a_kill_between_two_batches_is_not_seen(both: Both, kill: Callable[[], int]) -> None:
    here, there = both("processor", "words")
    texts = [pa.array(["one two", "three"])]
    assert there.process(texts)["out"].equals(here.process(texts)["out"])
    old = kill()
    assert there.process(texts)["out"].equals(here.process(texts)["out"])
    assert there._connection.link.process.pid != old


def test_kills_in_the_middle_lose_and_double_nothing(both: Both) -> None:
    here, there = both("processor", "words")
    texts = [[f"row {number} of words"] * 500 for number in range(300)]
    wanted = [here.process([pa.array(one)])["out"] for one in texts]
    over = threading.Event()
    killed: list[int] = []

    def kill_now_and_then() -> None:
        while not over.wait(0.3):
            process = there._connection.link.process
            if process is not None and len(killed) < 3:
                killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_now_and_then)
    thread.start()
    found: list[pa.Array] = []
    while len(found) < len(texts) or len(killed) < 3:
        number = len(found) % len(texts)
        found.append(there.process([pa.array(texts[number])])["out"])
        assert found[-1].equals(wanted[number])
    over.set()
    thread.join()
    assert there.cut == {"out": 0}


def test_rows_that_end_it_are_bad_rows(both: Both) -> None:
    there = both("processor", "words")[1]
    texts = ["fine"] * 20 + ["you die"] + ["this is longer than twenty"] * 10
    with pytest.raises(BadRows) as error:
        there.process([pa.array(texts)])
    assert [(bad.row, bad.column, bad.value) for bad in error.value.rows] == [(20, "text", "you die")]
    assert not there.cut  # the others are sent again
    assert "has ended there_words again and again (SIGKILL" in error.value.rows[0].reason
    rest = [text for text in texts if "die" not in text]
    assert there.process([pa.array(rest)])["out"].to_pylist() == [[8]] * 20 + [[8, 4, 12, 8, 12]] * 10
    assert there.cut == {"out": 10}


@pytest.mark.parametrize("times", [1, 2, 9])
def test_kills_while_it_assembles(both: Both, tmp_path: Path, capfd: pytest.CaptureFixture[str], times: int) -> None:
    there = both("outputter", "packed", times=times, log=str(tmp_path / "log"))[1]
    rows = [bytes([number]) for number in range(200)]
    with (tmp_path / "made").open("w+b") as file:
        file.write(b"before")
        if times == 9:
            with pytest.raises(RunError, match=r"'there_packed' .* was ended 3 times with the same rows, by SIGKILL"):
                there.assemble(iter(rows), len(rows), file)
            times = 3
        else:
            there.assemble(iter(rows), len(rows), file)
            file.seek(0)
            assert file.read() == b"before200:" + b"".join(rows)
    assert capfd.readouterr().err.count("was ended by SIGKILL") == times
    aside = (tmp_path / "log").read_text().split()
    wait_until(lambda: not any(Path(one).exists() for one in aside[:times]), "nothing is left of what was put aside")


def test_a_program_ends_with_its_host_however_that_ends(endpoint: str) -> None:
    program = textwrap.dedent(f"""
        import time
        from deepgen.kernel.connections import connect
        process = connect({endpoint!r}).link.process
        print(process.pid, process._process.pid, process.shared.socket, flush=True)
        time.sleep(600)
    """)
    for number in (signal.SIGKILL, signal.SIGTERM):
        host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert host.stdout is not None
        pid, keeper, socket = host.stdout.readline().split()
        assert is_alive(int(pid))
        host.send_signal(number)
        host.wait()
        host.stdout.close()
        wait_until(lambda pid=pid: not is_alive(int(pid)), "the plugin ends")  # type: ignore[misc]
        wait_until(lambda keeper=keeper: not is_alive(int(keeper)), "its keeper ends")  # type: ignore[misc]
        wait_until(lambda socket=socket: not Path(socket).parent.exists(), "nothing is left")  # type: ignore[misc]


STUBBORN = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
line = socket.socket(fileno=int(os.environ["DEEPGEN_PLUGIN_FD"]))
line.recv(65536)
{then}
"""


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("sys.exit(3)", "ended before it was ready, by itself, with exit code 3; what it printed, if anything, is abo"),
        (
            "os.kill(os.getpid(), 9)",
            "ended before it was ready, by SIGKILL; .*; what it printed, if anything, is above",
        ),
        ("sys.exit(0)", "code 0; a Python file of plugins is started as exec:deepgen plugin serve /.*/own.py$"),
        ('line.sendall(b\'{"error": "no licence here"}\\n\'); time.sleep(600)', "own.py: no licence here"),
        ("line.sendall(b'hello\\n'); time.sleep(600)", "said b'hello.n' where it should say that it is ready"),
    ],
)
def test_a_program_that_does_not_get_ready(tmp_path: Path, then: str, words: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(STUBBORN.format(then=then))
    with pytest.raises(PluginError, match=words) as error:
        load(f"exec:{shlex.join([sys.executable, str(file)])}")
    assert str(error.value).startswith("--plugin exec:")


def test_a_program_that_does_not_come_back_ends_the_run(tmp_path: Path, files: dict[str, Path]) -> None:
    once = tmp_path / "once"
    once.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/been ] && exit 7\ntouch {tmp_path}/been\n"
        f"exec {sys.executable} -m deepgen.controller.cli plugin serve {files['there']}\n"
    )
    once.chmod(0o755)
    connection = connections.connect(f"exec:{once}")
    process = connection.link.process
    assert process is not None
    connection.lost(connection.link, "for the test")
    with pytest.raises(RunError, match=r"cannot be started again: .* with exit code 7"):
        _ = connection.link


def test_a_program_that_is_no_plugin() -> None:
    with pytest.raises(PluginError) as error:
        load("exec:cat")
    right = (
        "a plugin's program listens on the socket that it is told on descriptor $DEEPGEN_PLUGIN_FD, until it is ended"
    )
    assert str(error.value) == f"--plugin exec:cat: ended before it was ready, by itself, with exit code 0; {right}"


def test_why_a_file_is_not_served_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    endpoint = f"exec:{sys.executable} -m deepgen.controller.cli plugin serve {tmp_path}/none.py"
    with pytest.raises(PluginError) as error:
        load(endpoint)
    why = f"{tmp_path}/none.py: no such file; give a Python file with plugins, or KIND:NAME"
    assert str(error.value) == f"--plugin {endpoint}: {why}"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("exec:/no/such/plugin", "/no/such/plugin is no program that can be found"),
        ("exec:", "^--plugin exec: names no program; give one, as in exec:./my_plugin$"),
        ("exec:'open", "no closing quotation; quote it as for a shell"),
        ("unix:relative.sock", "give the path of a socket"),
        ("unix:/no/such.sock", "cannot be reached: there is no such socket; is the server running.$"),
        ("grpc://example.org:7451", r"without TLS only this machine is spoken to \(127.0.0.1\)"),
        (f"unix:{__file__}", "cannot be reached: that is a file, and no socket$"),
        (f"unix:{Path(__file__).parent}", "cannot be reached: that is a folder, and no socket$"),
        ("grpcs://nosuchhost.invalid:1", "cannot be reached: the name nosuchhost.invalid cannot be resolved$"),
        ("grpcs://example.org", "give a host and a port, as in grpcs://"),
        ("grpcs://example.org:7451?tokn=x", "'tokn' is not known behind the '.'; there are token_file, ca"),
        ("grpcs://example.org:7451?ca=/no/such.pem", "ca /no/such.pem: no such file"),
        ("grpc://127.0.0.1:1", r"cannot be reached: nothing listens there \(connection refused\)$"),
    ],
)
def test_an_endpoint_that_cannot_be(endpoint: str, words: str) -> None:
    with pytest.raises(PluginError, match=words) as error:
        load(endpoint)
    assert str(error.value).startswith(f"--plugin {endpoint.removesuffix(':')}: ")


def test_a_temporary_folder_that_is_too_deep_for_a_socket(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    connection = connections.Connection(endpoint, own=True)
    assert [plugin.name for plugin in connection.link.plugins][:1]
    connection.end()
    assert not [*deep.iterdir()]


def test_two_threads_do_not_pay_for_each_others_rows(both: Both) -> None:
    bad, good = (both("processor", "words")[1] for _ in range(2))
    over = threading.Event()
    refused: list[BadRows] = []

    def ask() -> None:
        try:
            bad.process([pa.array(["fine", "you die", "fine", "fine"])])
        except BadRows as error:
            refused.append(error)
        over.set()

    thread = threading.Thread(target=ask)
    thread.start()
    texts = [f"row {number} of words" for number in range(4000)]
    while not over.is_set():
        assert len(good.process([pa.array(texts)])["out"]) == len(texts)
    thread.join()
    assert [[row.row for row in error.rows] for error in refused] == [[1]]


def test_a_file_that_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("#!/bin/sh\n")
    with pytest.raises(PluginError, match=r"own is not executable; `chmod \+x"):
        load(f"exec:{tmp_path}/own")
