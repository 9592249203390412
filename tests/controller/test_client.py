"""The client: which controller it means, what it makes of refusals, and streams that lose nothing when they are cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_controller import SCENE, Controller, CuttingProxy

from deepgen.controller.answers import NotFound, Refused, Unreachable
from deepgen.controller.client import Client
from deepgen.controller.connection import Endpoint, find
from deepgen.kernel.errors import UserError
from deepgen.v1.controller_pb2 import CreateJobRequest, RetryJobRequest
from deepgen.v1.job_pb2 import Job


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    home = tmp_path_factory.mktemp("controller")
    (home / "state").mkdir()
    (home / "data").mkdir()
    (home / "data" / "t.tsv").write_text("a film\t1\nno film\t0\n")
    with Controller(home / "state", home / "data") as controller:
        yield controller


def request(served: Controller, **told: object) -> CreateJobRequest:
    """A job that behaves as told."""
    name = hashlib.sha256(repr(told).encode()).hexdigest()[:8]
    (served.data / f"{name}.json").write_text(json.dumps(told))
    made = CreateJobRequest(job=Job(labels={"told": name}))
    made.job.spec.inline_scene = SCENE.replace("t.tsv", str(served.data / "t.tsv"))
    return made


def ended(client: Client, job: Job) -> Job:
    """The job when it has ended."""
    states = (Job.SUCCEEDED, Job.FAILED, Job.CANCELLED)
    return next(event.job for event in client.watch(job.name) if event.job.state in states)


def test_what_is_given_goes_before_the_environment_and_that_before_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEEPGEN_ADDRESS", "DEEPGEN_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"no controller is running here .*start one with `deepgen serve`"):
        find()
    folder = tmp_path / "deepgen"
    folder.mkdir()
    (folder / "address").write_text("127.0.0.1:7\n")
    (folder / "token").write_text("own\n")
    (tmp_path / "other").write_text("other\n")
    assert find() == Endpoint("127.0.0.1:7", "own")
    monkeypatch.setenv("DEEPGEN_ADDRESS", "there:8")
    monkeypatch.setenv("DEEPGEN_TOKEN_FILE", str(tmp_path / "other"))
    assert find() == Endpoint("there:8", "other")
    assert find("here:9", str(folder / "token")) == Endpoint("here:9", "own")
    with pytest.raises(UserError, match="--cert and --key belong together"):
        find(certificate="x")
    with pytest.raises(UserError, match="--token-file gone cannot be read: No such file or directory"):
        find(token_file="gone")


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("unix:/x", True), ("10.0.0.1:1", False)],
)
def test_tls_is_for_everything_but_this_machine(address: str, local: bool) -> None:
    assert Endpoint(address).is_local is local


def test_nobody_there() -> None:
    with Client(Endpoint("127.0.0.1:1"), patience=0.1) as client:
        with pytest.raises(Unreachable) as raised:
            client.get("x")
        assert str(raised.value) == "no controller is running at 127.0.0.1:1; start one with `deepgen serve`"
        with pytest.raises(Unreachable):
            next(client.watch())


def test_refusals(served: Controller) -> None:
    with served.client() as client:
        with pytest.raises(NotFound, match="there is no job"):
            client.find("no-such-job")
        bad = request(served)
        bad.job.spec.overrides["learning_rat"] = "1"
        with pytest.raises(Refused, match=r"learning_rat.*did you mean 'learning_rate'") as raised:
            client.create(bad)
        assert str(raised.value).count("learning_rat:") == 1
        with pytest.raises(Refused) as ahead:
            next(client.watch(after=10**9))
        assert ahead.value.reason == "AHEAD"
        assert int(ahead.value.facts["newest_sequence"]) >= 0
    with Client(Endpoint(served.address, "wrong")) as stranger:
        with pytest.raises(UserError, match="--token-file"):
            stranger.get("x")


def test_a_request_that_is_sent_again_makes_one_job(served: Controller) -> None:
    made = request(served)
    with served.client() as client:
        first = client.create(made)
        assert client.create(made).uid == first.uid
        assert ended(client, first).state == Job.SUCCEEDED


def test_an_id_may_be_abbreviated(served: Controller) -> None:
    with served.client() as client:
        for name in ("alpha-one", "alpha-two"):
            made = request(served)
            made.job_id = name
            client.create(made)
        assert client.find("alpha-o").name == "jobs/alpha-one"
        assert client.find("jobs/alpha-t").name == "jobs/alpha-two"
        with pytest.raises(UserError, match="'alpha' is the beginning of 2 jobs: alpha-two, alpha-one; give more"):
            client.find("alpha")


def test_streams_that_are_cut_lose_nothing(served: Controller) -> None:
    with served.client() as client:
        job = client.create(request(served, bytes=2_000_000, steps=50))
        ended(client, job)
        log = next((served.state / job.name / "attempts" / "1" / "ranks").glob("*_rank0.log")).read_bytes()
        for _ in range(5):  # enough events for more than one connection
            ended(client, client.create(request(served)))
        events = list(client.watch(wait=False))
    with CuttingProxy(served.port, 300_000) as proxy:
        with Client(Endpoint(proxy.address, served.client().endpoint.token)) as cut:
            chunks = list(cut.logs(f"{job.name}/attempts/1", [0], follow=True))
            assert b"".join(chunk.data for chunk in chunks) == log
            assert chunks[-1].end
        assert proxy.cuts > 3
    with CuttingProxy(served.port, 6_000) as proxy, Client(Endpoint(proxy.address, client.endpoint.token)) as cut:
        again = []
        for event in cut.watch():
            again.append(event.sequence)
            if event.sequence >= events[-1].sequence:
                break
        assert again == [event.sequence for event in events]
        assert proxy.cuts > 0


def test_a_tail_goes_on_where_it_was_cut(served: Controller) -> None:
    with served.client() as client:
        job = client.create(request(served, bytes=1_000_000))
        ended(client, job)
        log = next((served.state / job.name / "attempts" / "1" / "ranks").glob("*_rank0.log")).read_bytes()
    with CuttingProxy(served.port, 300_000) as proxy:
        with Client(Endpoint(proxy.address, client.endpoint.token)) as cut:
            chunks = list(cut.logs(f"{job.name}/attempts/1", [0], follow=True, tail=700_000))
    assert b"".join(chunk.data for chunk in chunks) == log[-700_000:]


def test_a_follower_outlives_the_controller(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t.tsv").write_text("a film\t1\nno film\t0\n")
    first = Controller(tmp_path / "state", tmp_path / "data")
    with first, first.client() as client:
        job = client.create(request(first, gate=str(tmp_path / "gate"), steps=3))
        logs = client.logs(job.name, [0], follow=True)
        begun = next(logs).data
        first.stop()
        with Controller(tmp_path / "state", tmp_path / "data", port=first.port):
            (tmp_path / "gate").write_text("")
            whole = begun + b"".join(chunk.data for chunk in logs)
            assert whole == b"".join(b"rank 0 step %d\n" % step for step in range(3))
            assert ended(client, job).state == Job.SUCCEEDED


def test_retry_of_a_job_that_has_changed_is_refused(served: Controller) -> None:
    with served.client() as client:
        job = ended(client, client.create(request(served, exit={"0": 2}, error={"0": "wrong"})))
        assert job.state == Job.FAILED
        with pytest.raises(Refused):
            client.retry(RetryJobRequest(name=job.name, etag="another"))
        assert client.retry(RetryJobRequest(name=job.name, etag=job.etag)).state == Job.QUEUED
