"""Through lost replies, copies, cuts and a restart: one job for each submit, each byte of a log and each event once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from light_controller import LightController

from deepgen.v1.controller_pb2 import CancelJobRequest
from deepgen.v1.job_pb2 import Job

from .proxy import Proxy, follow, on_record, submit


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[LightController]:
    with LightController(tmp_path / "controller") as made:
        yield made.keep()


def test_each_submit_makes_one_job_though_replies_are_lost_and_requests_come_twice(controller: LightController) -> None:
    names, proxy = submit(controller, 200)
    assert names == on_record(controller)
    assert len(names) == 200
    assert proxy.cuts > 20
    assert proxy.copies > 0


def test_a_followed_log_is_whole_after_twenty_cuts_and_a_restart(controller: LightController) -> None:
    came, there, proxy = follow(controller, 20)
    assert came == there
    assert proxy.cuts == 20
    assert controller.starts == 2


def test_a_watch_misses_nothing_and_says_nothing_twice_over_cuts(controller: LightController) -> None:
    count = 40
    request = controller.request("waits", {}, ranks=controller.slots + 1)
    with controller.client() as direct:
        for number in range(count):
            request.job_id, request.request_id = f"job-{number}", ""
            direct.create(request)
        seen = []
        with Proxy(controller.address, cut_after=3000, cuts=20) as proxy, controller.client(proxy.address) as client:
            for event in client.watch():
                seen.append(event)
                number = len(seen)
                if number <= count:  # there is always something new to come
                    direct.cancel(CancelJobRequest(name=f"jobs/job-{number - 1}"))
                if number == count // 2:
                    controller.kill()
                if number == 2 * count:
                    break
    assert [event.sequence for event in seen] == list(range(1, 2 * count + 1))
    assert [event.job.state for event in seen[count:]] == [Job.CANCELLED] * count
    assert proxy.cuts > 3
