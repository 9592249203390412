"""Processes of this program that work for another one: what goes through the pipes, and what does not end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel import siblings
from deepgen.kernel.errors import PluginError, RunError
from deepgen.kernel.remote import NotConfigured


def work() -> None:
    """Answers with what it does for a word, as a plugin would do it."""
    requests, answers = siblings.opened()
    while True:
        try:
            word = siblings.receive(requests)
        except siblings.ENDED:
            return
        said: Any = word
        if word == "read":
            said = (sys.stdin.read(), subprocess.run(["cat"], capture_output=True, check=True).stdout)
        elif word == "print":
            print("what a plugin prints")
        elif word == "signals":
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        elif word == "program":
            program = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
            said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        elif word == "unpicklable":
            try:
                siblings.send(["a text", b"0" * 1_000_000, lambda: None], answers)
            except Exception as error:
                said = [type(error).__name__, word, word]
        elif word == "path":
            said = sys.path
        siblings.send(said, answers)


def asked(word: str) -> Any:
    """What a new one says to a word, and that it still answers then."""
    process = siblings.start(work)
    try:
        siblings.send(word, process.stdin)
        said = siblings.receive(process.stdout)
        siblings.send("again", process.stdin)
        assert siblings.receive(process.stdout) == "again"
        return said
    finally:
        siblings.end(process)


def test_what_a_plugin_reads_is_no_request() -> None:
    assert asked("read") == ("", b"")


def test_what_a_plugin_prints_is_seen_at_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    asked("print")
    assert capfd.readouterr().err == "what a plugin prints\n"


def test_signals_to_end_are_for_who_asks() -> None:
    """A service manager sends them to all processes of a service; a program of a plugin heeds them."""
    assert asked("signals") == "signals"
    assert asked("program") == b"True\n"


def test_of_what_cannot_be_pickled_nothing_is_sent() -> None:
    error, *rest = asked("unpicklable")
    assert error in ("AttributeError", "PicklingError")
    assert rest == ["unpicklable"] * 2


def test_modules_come_from_where_they_come_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not from the working directory, where a user's queue.py may be."""
    for name in ("queue", "pickle", "subprocess"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    monkeypatch.chdir(tmp_path)
    assert asked("path") == sys.path


@pytest.mark.parametrize(
    ("given", "kind"),
    [(PluginError("one"), PluginError), (NotConfigured("one"), PluginError), (RunError("one"), RunError)],
)
def test_an_error_is_there_what_it_was_here(given: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as error:
        siblings.Failed.of(given).throw()
    assert type(error.value) is kind
    assert str(error.value) == "one"
