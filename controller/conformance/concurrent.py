"""Checks of several calls at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from .case import Case
from .checks import Wrong, check
from .load import begun, carried, given_back, send
from .server import Server
from .subject import differing

CALLS = 8
"""Each has rows of its own."""


def _alone(case: Case) -> list[pa.RecordBatch]:
    return [given_back(case, send(case, carried(case, 20, place))) for place in range(CALLS)]


@check("concurrent.instances", "Several instances are called at once, and each gives its own answers.", of="server")
def instances(server: Server) -> None:
    for case in server.takers:
        alone = _alone(case)
        for place in range(CALLS):
            case.configured(f"one of {place}")
        with ThreadPoolExecutor(CALLS) as pool:
            done = [pool.submit(_asked, case, place, alone[place]) for place in range(CALLS)]
        for one in done:
            one.result()
        for place in range(CALLS):
            case.released(f"one of {place}")


def _asked(case: Case, place: int, alone: pa.RecordBatch) -> None:
    for _ in range(5):
        answer = begun(case, carried(case, 20, place), case.named(f"one of {place}")).result()
        if words := differing(alone, given_back(case, answer)):
            raise Wrong(f"{case.title}: {CALLS} instances at once", words, "the answer as alone")


@check("concurrent.one_instance", "Calls of one instance at the same time are all answered rightly.", of="server")
def one_instance(server: Server) -> None:
    for case in server.takers:
        alone = _alone(case)
        under_way = [begun(case, carried(case, 20, place)) for place in range(CALLS)]
        for right, call in zip(alone, under_way, strict=True):
            if words := differing(right, given_back(case, call.result())):
                raise Wrong(f"{case.title}: {CALLS} calls of one instance at once", words, "the answer as alone")
