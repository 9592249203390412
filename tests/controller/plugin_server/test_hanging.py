"""Calls that do not end: who waits for one is told, who gave it up is not kept, and the next caller is answered."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from plugin_servers import Served, code_of, inline, started

from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1 import processor_service_pb2

PLUGIN = '''
"""Waits for as long as a file is there."""
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("waits")
@dataclass
class Waits(Processor):
    """The length of a text; of the name of a file, once that is gone."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        for text in columns[0].to_pylist():
            if text.startswith("/"):
                Path(text + ".begun").touch()
            while text.startswith("/") and Path(text).exists():
                time.sleep(0.01)
        return {self.output: pa.array([len(text) for text in columns[0].to_pylist()])}
'''
SEEN = 60.0
"""Seconds after which something that was to happen is taken not to."""


class Place:
    """A server with a processor that hangs for as long as a file is there."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self.stubs, self._folder = served, served.stubs, folder
        self._made = 0
        self.configured("waits")

    def configured(self, instance: str) -> None:
        """Makes an instance of it."""
        self.stubs.configure(instance, "processor", "waits", inputs=["text"], output="size")

    def asked(self, text: str, instance: str = "waits") -> Any:
        """What it gives for a text, within a time in which a call that hangs would not."""
        return self.later(text, instance).result()

    def later(self, text: str, instance: str = "waits") -> Any:
        """The call, under way."""
        request = processor_service_pb2.ProcessRequest(instance=instance, columns=inline({"0": pa.array([text])}))
        return self.stubs.processor.Process.future(request, timeout=SEEN)

    def hanging(self, instance: str = "waits") -> tuple[Any, Path]:
        """A call that is worked on, and the file it waits for."""
        file = self._folder / f"file{self._made}"
        self._made += 1
        file.touch()
        call = self.later(str(file), instance)
        begun, until = Path(f"{file}.begun"), time.monotonic() + SEEN
        while not begun.exists():
            assert time.monotonic() < until, "the call is worked on"
            time.sleep(0.01)
        return call, file

    def ready(self, until: float, ready: bool = True) -> wire.ProbeResponse:
        """The first probe that says that it is ready, or that it is not."""
        while (answer := self.probe()).ready is not ready:
            assert time.monotonic() < until
            time.sleep(0.05)
        return answer

    def probe(self) -> wire.ProbeResponse:
        """What it says of itself."""
        answer: wire.ProbeResponse = self.stubs.plugin.Probe(wire.ProbeRequest(), timeout=SEEN)
        return answer


@contextmanager
def place(folder: Path, *words: str) -> Iterator[Place]:
    (folder / "waits.py").write_text(PLUGIN)
    with started([str(folder / "waits.py"), *words]) as served:
        yield Place(served, folder)


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Place]:
    """A server that takes a call of a second for one that hangs."""
    with place(tmp_path, "--longest-call", "1") as found:
        yield found


def test_a_call_that_is_given_up_frees_its_caller_at_once_and_its_instance_soon(hasty: Place) -> None:
    for _ in range(3):
        call, file = hasty.hanging()
        call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result()
        assert file.exists()  # it hangs still
        assert hasty.asked("four").HasField("fields")
    assert hasty.probe().ready


def test_who_waits_behind_a_long_call_is_told_which_one(hasty: Place) -> None:
    call, file = hasty.hanging()
    with pytest.raises(grpc.RpcError) as error:
        hasty.asked("four")
    code, words = code_of(error)
    assert code == "RESOURCE_EXHAUSTED"
    assert words.startswith("instance 'waits' (processor 'waits') has been at one call for ")
    assert words.endswith(" s; ask again later, or restart this server if that call never ends")
    file.unlink()
    assert call.result().HasField("fields")  # it was only slow
    assert hasty.asked("four").HasField("fields")


def test_a_call_that_takes_too_long_is_seen_by_a_probe(hasty: Place) -> None:
    assert hasty.probe().ready
    call, file = hasty.hanging()
    until = time.monotonic() + SEEN
    answer = hasty.ready(until, False)
    assert answer.why.startswith("instance 'waits' (processor 'waits') has been at one call for ")
    assert answer.why.endswith(" s, longer than --longest-call 1; restart this server")
    file.unlink()
    call.result()
    hasty.ready(until)


def test_health_is_as_a_probe_says(hasty: Place) -> None:
    well, ill = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    asked = health_pb2.HealthCheckRequest(service="deepgen.v1.ProcessorService")
    with grpc.insecure_channel(f"unix:{hasty.served.path}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(asked, timeout=SEEN)
        assert next(watched).status == health.Check(asked).status == well
        call, file = hasty.hanging()
        assert next(watched).status == ill  # though nobody asks meanwhile
        assert not hasty.probe().ready
        assert health.Check(asked).status == health.Check(health_pb2.HealthCheckRequest()).status == ill
        file.unlink()
        call.result()
        hasty.ready(time.monotonic() + SEEN)
        assert health.Check(asked).status == next(watched).status == well


def test_a_plugin_that_hangs_again_and_again_is_refused(hasty: Place) -> None:
    files = []
    for number in range(8):
        hasty.configured(f"run{number}")
        call, file = hasty.hanging(f"run{number}")
        call.cancel()
        files.append(file)
    until = time.monotonic() + SEEN
    hasty.ready(until, False)
    with pytest.raises(grpc.RpcError) as error:
        hasty.asked("four")
    code, words = code_of(error)
    assert code == "UNAVAILABLE"
    assert words.startswith("processor 'waits' hangs: 8 calls do not end that nobody waits for any more, the oldest ")
    assert words.endswith(" s; restart this server")
    assert hasty.probe().why == words or hasty.probe().why.startswith("processor 'waits' hangs: 8 calls")
    files[0].unlink()
    hasty.ready(until)
    assert hasty.asked("four").HasField("fields")


def test_a_call_that_nobody_waits_for_does_not_keep_it_from_its_end(tmp_path: Path) -> None:
    with place(tmp_path) as found:
        call, file = found.hanging()
        call.cancel()
        found.served.process.send_signal(signal.SIGTERM)
        assert found.served.process.wait(SEEN) == 0
        assert file.exists()


def test_the_end_of_one_call_is_not_taken_for_the_callers_leaving_the_next(hasty: Place) -> None:
    call, file = hasty.hanging()
    waiting = hasty.later("four")  # begins when the other ends, and with it
    file.unlink()
    assert call.result().HasField("fields")
    assert waiting.result().HasField("fields")
    call, file = hasty.hanging()
    time.sleep(2.5)  # longer than a call has once nobody waits for it
    with pytest.raises(grpc.RpcError) as error:
        hasty.asked("four")
    assert code_of(error)[0] == "RESOURCE_EXHAUSTED"  # and not an answer of another object
    file.unlink()
    assert call.result().HasField("fields")
