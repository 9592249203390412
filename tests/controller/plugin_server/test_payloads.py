"""Payloads that are put aside and instances that nobody releases: neither is kept for ever."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from deepgen.controller.plugin_server import instances, payloads
from deepgen.controller.plugin_server.instances import Instances
from deepgen.controller.plugin_server.offers import offered
from deepgen.controller.plugin_server.payloads import KEPT_SECONDS, Payloads
from deepgen.controller.plugin_server.refusals import Refused
from deepgen.controller.plugin_server.turns import Turns
from deepgen.kernel.contracts import Processor
from deepgen.v1 import plugin_pb2
from deepgen.v1 import plugin_service_pb2 as wire

FILE = str(Path(__file__).with_name("served.py"))


def pieces(*sizes: int) -> list[wire.PutRequest]:
    return [wire.PutRequest(data=bytes(size)) for size in sizes]


def sizes(kept: Payloads, key: str) -> list[int]:
    return [len(answer.data) for answer in kept.get(key)]


def test_what_nobody_fetches_is_forgotten() -> None:
    now = [0.0]
    kept = Payloads(shares=False, clock=lambda: now[0])
    first, other = kept.put(pieces(3, 4)), kept.put(pieces())
    now[0] = KEPT_SECONDS - 1
    later = kept.put(pieces(5))
    assert sizes(kept, first) == [7]
    now[0] = KEPT_SECONDS
    for gone in (first, other, "never"):
        with pytest.raises(Refused, match=f"^no payload is put aside under '{gone}'$"):
            sizes(kept, gone)
    assert sizes(kept, later) == [5]


def test_no_more_is_put_aside_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "MOST_KEPT", 10)
    now = [0.0]
    kept = Payloads(shares=False, clock=lambda: now[0])
    first = kept.put(pieces(4, 4))
    with pytest.raises(Refused, match="8 bytes are put aside and not asked for; 3 more are above 10") as error:
        kept.put(pieces(3))
    assert error.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert sizes(kept, first) == [8]
    kept.put(pieces(10))
    now[0] = KEPT_SECONDS  # what was put aside is forgotten by now
    kept.put(pieces(10))


def test_instances_of_hosts_that_were_killed_make_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "MOST", 2)
    found, notes = offered([FILE])
    assert not notes
    known = Instances(found, Turns())

    def configure(name: str) -> None:
        kind = plugin_pb2.PluginDescriptor.PROCESSOR
        known.configure(wire.ConfigureRequest(instance=name, kind=kind, name="copy", inputs=["a"], output="b"))

    configure("one")
    configure("two")
    busy = known.find("one", Processor)
    known.find("two", Processor)
    with busy._seat.lock:
        configure("three")  # "one" was idle longer, but it is at work
    for name in ("one", "three"):
        assert known.find(name, Processor).name == name
    with pytest.raises(Refused, match=r"^no instance is called 'two'; configure it first$"):
        known.find("two", Processor)
    configure("two")
    with pytest.raises(Refused):
        known.find("one", Processor)
