"""Batches of many requests: who shares one, who waits for whom, what is dropped; the model works when it is told."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from deepgen.controller.model_server.batching import Batcher, Bounds, Closed
from deepgen.controller.model_server.waiting import Full, Late, Piece
from deepgen.kernel.errors import RunError

LONG = 60.0
"""Seconds, as a window that no test waits for, and as the most that one waits for anything."""


class Steps:
    """A model whose batches wait until the test lets them go on; it answers a row with itself."""

    def __init__(self, bounds: Bounds) -> None:
        self._begun: queue.Queue[list[Piece]] = queue.Queue()
        self._go: queue.Queue[BaseException | None] = queue.Queue()
        self.free = threading.Event()
        self.sizes: list[int] = []
        self.most = bounds.max_batch
        self.batcher = Batcher(self, bounds, lambda rows, seconds: self.sizes.append(rows))

    def __call__(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Any]]:
        assert 0 < sum(map(len, pieces)) <= self.most
        if not self.free.is_set():
            self._begun.put(list(pieces))
            error = self._go.get(timeout=LONG)
            if error is not None:
                raise error
        for place, piece in reversed(list(enumerate(pieces))):
            if "poison" in piece.rows[piece.begin : piece.end]:
                raise ValueError("poison")
            yield place, piece.rows[piece.begin : piece.end]

    def begun(self) -> list[tuple[str, int]]:
        """Waits for the next batch to begin: who is in it (the first row of the request), with how many rows."""
        return [(str(piece.rows[0]), len(piece)) for piece in self._begun.get(timeout=LONG)]

    def go_on(self, error: BaseException | None = None) -> None:
        """Lets the batch that has begun end."""
        self._go.put(error)

    def ask(self, name: str, count: int = 1, expires: float = float("inf")) -> Future[list[Any]]:
        return self.batcher.ask([name, *range(1, count)], count, expires)

    def end(self) -> None:
        self.free.set()
        self._go.put(None)
        self.batcher.close()


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> Iterator[Steps]:
    made = Steps(getattr(request, "param", Bounds(window=0, max_batch=8)))
    yield made
    made.end()


def joined(future: Future[list[Any]]) -> list[Any]:
    return [row for part in future.result(LONG) for row in part]


def test_what_comes_while_the_model_works_is_one_batch_and_each_gets_its_own(steps: Steps) -> None:
    first = steps.ask("first")
    assert steps.begun() == [("first", 1)]
    others = {name: steps.ask(name, count) for name, count in (("a", 2), ("b", 1), ("c", 3))}
    assert steps.batcher.waiting == 6
    steps.go_on()
    assert steps.begun() == [("a", 2), ("b", 1), ("c", 3)]
    assert joined(first) == ["first"]
    assert not any(future.done() for future in others.values())
    steps.go_on()
    assert [joined(future) for future in others.values()] == [["a", 1], ["b"], ["c", 1, 2]]
    assert steps.batcher.waiting == 0


@pytest.mark.parametrize("steps", [Bounds(window=LONG, max_batch=4)], indirect=True)
def test_a_full_batch_does_not_wait_for_the_window(steps: Steps) -> None:
    for name in "abcd":
        steps.ask(name)
    assert steps.begun() == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
    steps.ask("e", 5)  # one more than a batch
    steps.go_on()
    assert steps.begun() == [("e", 4)]


def test_an_idle_model_waits_for_the_window_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    waits: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    steps = Steps(Bounds(window=0.25, max_batch=8))
    changed = steps.batcher._changed

    def wait(timeout: float | None = None) -> bool:
        if timeout is None:
            return threading.Condition.wait(changed)
        waits.append(timeout)
        now[0] += timeout
        return False

    monkeypatch.setattr(changed, "wait", wait)
    steps.ask("a")
    assert steps.begun() == [("a", 1)]
    assert waits == [0.25]
    steps.ask("b")  # it waits while the model works
    now[0] += 1
    steps.go_on()
    assert steps.begun() == [("b", 1)]
    assert waits == [0.25]
    steps.end()


@pytest.mark.parametrize("steps", [Bounds(window=0, max_batch=128)], indirect=True)
def test_clients_that_wait_for_their_answers_fall_into_two_halves(steps: Steps) -> None:
    """However they begin: else the model waits for them, or they for it."""
    futures = {"0": steps.ask("0")}
    sizes = [len(steps.begun())]
    futures |= {str(client): steps.ask(str(client)) for client in range(1, 32)}
    for _ in range(8):
        steps.go_on()
        sizes.append(len(steps.begun()))
        for client in [client for client, future in futures.items() if future.done()]:
            futures[client] = steps.ask(client)
    assert sizes == [1] + [16] * 8


@pytest.mark.parametrize("steps", [Bounds(window=0, max_batch=1000)], indirect=True)
def test_what_is_left_over_comes_before_smaller_requests(steps: Steps) -> None:
    steps.ask("first")
    assert steps.begun() == [("first", 1)]
    steps.ask("large", 80)
    steps.go_on()
    assert steps.begun() == [("large", 41)]
    for number in range(60):
        steps.ask(f"small {number}")
    steps.go_on()
    took = steps.begun()
    assert took[0] == ("large", 39)
    assert len(took) == 1 + 31


@pytest.mark.parametrize("steps", [Bounds(window=0, max_batch=1000)], indirect=True)
def test_a_row_waits_for_two_halves_at_most(steps: Steps) -> None:
    """As long as no more rows wait than a batch takes: the bound of the latency, window + 2 batches of all rows."""
    random.seed(1)
    steps.ask("first")
    running = sum(count for _, count in steps.begun())
    left: dict[str, int] = {}
    """Rows that wait, by request, in the order that they came in."""
    for turn in range(200):
        size = random.choice((1, 40))
        asked = {f"{turn}.{number}": size for number in range(random.randint(1, 100 // size))}
        for name, count in asked.items():
            steps.ask(name, count)
        longest = set(left)
        left |= asked
        steps.go_on()
        took = steps.begun()
        assert sum(count for _, count in took) <= max(16, -(-(sum(left.values()) + running) // 2))
        running = sum(count for _, count in took)
        for name, count in took:
            left[name] -= count
        left = {name: count for name, count in left.items() if count}
        assert not longest & set(left), "what was left over by one batch is in the next one"


def test_a_large_request_does_not_hold_up_a_small_one(steps: Steps) -> None:
    large = steps.ask("large", 10_000)
    assert steps.begun() == [("large", 8)]
    for turn in range(100):
        small = steps.ask(f"small {turn}")
        steps.go_on()
        assert steps.begun() == [("large", 7), (f"small {turn}", 1)]
        assert not small.done()
    small = steps.ask("last", 3)
    steps.free.set()
    steps.go_on()
    assert joined(small) == ["last", 1, 2]
    assert joined(large) == ["large", *range(1, 10_000)]


def test_small_requests_do_not_starve_a_large_one(steps: Steps) -> None:
    steps.ask("first")
    steps.begun()
    steps.ask("large", 40)
    for turn in range(10):
        for number in range(8 if turn == 0 else 4):
            steps.ask(f"{turn}.{number}")
        steps.go_on()
        batch = steps.begun()
        assert sum(count for _, count in batch) == 8
        assert batch[0] == ("large", 4), "half of each batch is for whoever waits longest"


def test_requests_of_one_size_come_in_their_order_and_are_not_cut(steps: Steps) -> None:
    steps.ask("first")
    steps.begun()
    for name in "abcdef":
        steps.ask(name, 4)
    for wanted in ("ab", "cd", "ef"):
        steps.go_on()
        assert steps.begun() == [(name, 4) for name in wanted]


def test_what_nobody_waits_for_costs_no_forward(steps: Steps) -> None:
    steps.ask("first")
    steps.begun()
    gone, late, stays = steps.ask("gone", 5), steps.ask("late", 2, expires=0.0), steps.ask("stays")
    assert gone.cancel()
    steps.go_on()
    assert steps.begun() == [("stays", 1)]
    with pytest.raises(Late):
        late.result(LONG)
    large = steps.ask("large", 20)
    steps.go_on()
    assert joined(stays) == ["stays"]
    assert steps.begun() == [("large", 8)]
    assert large.cancel()
    after = steps.ask("after")
    steps.go_on()
    assert steps.begun() == [("after", 1)]
    steps.go_on()
    assert joined(after) == ["after"]
    assert steps.sizes[:3] == [1, 1, 8]


@pytest.mark.parametrize("steps", [Bounds(window=0, max_batch=8, max_waiting=10)], indirect=True)
def test_too_many_rows_are_refused_until_there_is_room(steps: Steps) -> None:
    steps.ask("first")
    steps.begun()
    waiting = steps.ask("waiting", 9)
    assert not steps.batcher.has_room(2)
    with pytest.raises(Full, match="9 rows are waiting, and these are 2; at most 10 may wait: ask again later"):
        steps.ask("more", 2)
    with pytest.raises(Full, match="ask for fewer at a time"):
        steps.ask("many", 11)
    left = steps.batcher.next_batch()
    assert not left.done()
    steps.go_on()
    steps.begun()
    left.result(LONG)
    assert steps.batcher.has_room(2)
    steps.ask("more", 2)
    waiting.cancel()
    steps.ask("others", 8)  # what was cancelled does not count
    assert steps.batcher.next_batch() is not left


def test_a_request_that_fails_fails_alone(steps: Steps) -> None:
    steps.ask("first")
    steps.begun()
    good = steps.ask("good", 2)
    bad = steps.batcher.ask(["poison"], 1)
    large = steps.batcher.ask([*range(20), "poison", *range(20)], 41)
    steps.free.set()
    steps.go_on()
    assert joined(good) == ["good", 1]
    for future in (bad, large):
        with pytest.raises(ValueError, match="poison"):
            future.result(LONG)
    assert joined(steps.ask("after")) == ["after"]


def test_a_panic_ends_its_request_and_not_the_server(steps: Steps) -> None:
    """What a library in Rust raises, or `sys.exit` in a plugin, is no Exception."""
    bad = steps.ask("bad")
    steps.begun()
    steps.go_on(SystemExit("panicked"))
    with pytest.raises(RunError, match="SystemExit: panicked"):
        bad.result(LONG)
    steps.free.set()
    assert joined(steps.ask("after")) == ["after"]


def test_closing_answers_what_waits() -> None:
    steps = Steps(Bounds(window=LONG, max_batch=8))
    asked = [steps.ask(str(number), 3) for number in range(5)]
    steps.begun()
    closing = threading.Thread(target=steps.end)
    closing.start()
    assert [joined(future) for future in asked] == [[str(number), 1, 2] for number in range(5)]
    closing.join(LONG)
    assert not closing.is_alive()
    with pytest.raises(Closed):
        steps.ask("late")
