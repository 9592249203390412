"""Checks of a plugin behind the kernel's own host, as a run has it: the same answers, also when it is killed."""

from __future__ import annotations

import io
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import cast

import numpy as np

from ...kernel.connections import Connection
from ...kernel.contracts import Outputter
from ...kernel.payload import from_state
from ...kernel.stand_ins.classes import classes_at
from ..processes import command_of, descendants
from .answers import predictions
from .case import Case
from .checks import Skipped, Wrong, check
from .commits import BATCHES, result_file
from .near import Near
from .server import Server
from .subject import differing, take

BATCH = 200
"""Rows."""


@contextmanager
def _hosted(server: Server) -> Iterator[list[tuple[Case, Case]]]:
    """The first plugin of each kind, spoken to by itself and as a run does."""
    connection = Connection(server.endpoint.text)
    try:
        classes = {(plugin.kind, plugin.name): plugin for plugin in classes_at(connection)}
        with redirect_stderr(io.StringIO()):  # what the host says of a program that is killed on purpose
            yield [
                (case, Case(Near(classes[case.kind, case.descriptor.name], case.descriptor), case.options, case.quick))
                for case in server.takers
            ]
    finally:
        connection.end()


def _work(case: Case, rows: Case) -> Callable[[int], object]:
    """Answers of a batch of rows, by number, in a form that can be compared."""
    instance = case.main
    if case.kind == "processor":
        batch = take(rows.rows, np.arange(BATCH) % rows.rows.num_rows)
        return lambda number: case.subject.process(instance, batch)
    problem = case.problems[0]

    def given(number: int) -> object:
        some = predictions(problem, range(number * BATCH, (number + 1) * BATCH))
        if case.kind == "metric":
            return from_state(case.subject.update(instance, some))
        return case.subject.format(instance, some)

    return given


def _compare(what: str, one: object, other: object) -> None:
    if isinstance(one, list):
        if one != other:
            raise Wrong(what, "other rows", "the same rows")
    elif words := differing(one, other):
        raise Wrong(what, words, "the same values")


@check("host.answers", "A run's own host gets the answers that the plugin gives.", of="server")
def answers(server: Server) -> None:
    with _hosted(server) as pairs:
        for case, hosted in pairs:
            by_itself, by_host = _work(case, case), _work(hosted, case)
            for number in range(3):
                _compare(f"{case.title}: a batch, by itself and behind the host", by_itself(number), by_host(number))


@check("host.killed", "Killed with -9 under a run's own host, no batch is lost, doubled or changed.", of="server")
def killed(server: Server) -> None:
    if not server.is_ours:
        raise Skipped("it was not started by this command, so it is not killed")
    kills = 2 if server.quick else 5
    with _hosted(server) as pairs:
        for case, hosted in pairs:
            work = _work(hosted, case)
            right = [work(number) for number in range(kills)]
            dead: list[bool] = []
            for number in range(kills):
                killing = threading.Timer(0.001 * number, _kill, (server.endpoint.command, dead))
                killing.start()
                for place in range(kills):
                    _compare(f"{case.title}: a batch while its process is killed", right[place], work(place))
                killing.join()
                _compare(f"{case.title}: a batch after its process was killed", right[number], work(number))
            _seen_dead(dead)


@check(
    "host.exactly_once",
    "Killed with -9 under a run's own host, each row is in the result file exactly once.",
    of="server",
)
def exactly_once(server: Server) -> None:
    if not server.is_ours:
        raise Skipped("it was not started by this command, so it is not killed")
    with _hosted(server) as pairs:
        outputters = [hosted for _, hosted in pairs if hosted.kind == "outputter"]
        if not outputters:
            raise Skipped("it offers no outputter")
        subject = cast(Near, outputters[0].subject)
        outputter: Outputter = subject.made(outputters[0].main)
        whole = predictions(outputters[0].problems[0], range(BATCHES * BATCH))
        times = (3,) if server.quick else (1, 3, 8, 10, 12)
        dead: list[bool] = []

        def kill(batch: int) -> None:
            """In the middle of a call, and once between two."""
            if batch == BATCHES // 2:
                _kill(server.endpoint.command, dead)
            elif batch in times:
                threading.Timer(0.002, _kill, (server.endpoint.command, dead)).start()

        with tempfile.TemporaryDirectory() as calm, tempfile.TemporaryDirectory() as wild:
            right = result_file(outputter, whole, Path(calm))
            made = result_file(outputter, whole, Path(wild), kill)
        if made != right:
            raise Wrong(f"{len(whole.rows)} rows, its process killed meanwhile", "another file", "the same bytes")
        _seen_dead(dead)


def _seen_dead(dead: list[bool]) -> None:
    """Refuses to have checked anything where nothing was killed."""
    if not any(dead):
        raise Wrong("kill -9 of the program that the host has started", "none was found", "a process below its keeper")


def _kill(command: tuple[str, ...], dead: list[bool]) -> None:
    """Kills the program that the host has started, and what that has started; notes whether there was one.

    It is a child of its keeper, which is a child of this process.
    """
    for keeper in descendants(os.getpid()):
        words = command_of(keeper.pid)
        if any(word.endswith("keeper.py") for word in words) and words[-len(command) :] == list(command):
            below = [process for process in descendants(keeper.pid) if process != keeper]
            dead += [process.signal(signal.SIGKILL) for process in below]
