"""The unary methods of Jobs and the catalogue, over a real server: answers, refusals, idempotence, ownership."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from serving import Client, Served, refused, serve

from deepgen.v1 import controller_pb2 as wire
from deepgen.v1.job_pb2 import Job


def test_a_job_is_created_read_and_listed(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create(labels={"team": "nlp"}, priority=5, overrides={"learning_rate": "0.1"})
            assert made.name.startswith("jobs/letters-")
            assert made.state == Job.QUEUED
            assert made.etag
            assert made.sequence == 1
            assert await client.call(client.jobs.GetJob, wire.GetJobRequest(name=made.name)) == made
            listed = await client.call(client.jobs.ListJobs, wire.ListJobsRequest(filter="labels.team = nlp"))
            assert list(listed.jobs) == [made]
            assert served.conductor.wakes == 1
            assert "learning_rate: 0.1" in served.scene(made.name)

    serve(tmp_path, check)


def test_what_was_checked_is_kept_whatever_is_edited_later(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create()
            (served.data / "scenes" / "letters.yaml").write_text("output_dir: /etc\n")
            scene = served.scene(made.name)
            assert f"train_dir: {served.data}/rows.tsv" in scene
            assert "/etc" not in scene

    serve(tmp_path, check)


def test_the_same_request_gets_the_same_job(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        number = str(uuid.uuid4())
        async with served.client() as client:
            made = await asyncio.gather(*(client.create(request_id=number) for _ in range(20)))
            assert len({job.name for job in made}) == 1
            with refused("INVALID_ARGUMENT") as refusal:
                await client.create(request_id=number, priority=7)
            assert refusal.told.fields == ["request_id"]
            (served.data / "rows.tsv").unlink()  # the answer does not depend on what has become of the scene
            assert await client.create(request_id=number) == made[0]
        async with served.client(served.user("ada")) as other:
            with refused("INVALID_ARGUMENT"):  # a request of somebody else's is another one, and its data is gone
                await other.create(request_id=number, overrides={"seed": "2"})
        with served.store.reader() as reader:
            assert reader.newest_sequence() == 1

    serve(tmp_path, check)


def test_validate_only_creates_nothing(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create(validate_only=True, job_id="mine")
            assert made.name == "jobs/mine"
            with refused("INVALID_ARGUMENT") as refusal:
                await client.create(validate_only=True, overrides={"learning_rat": "1"})
            assert refusal.told.fields == ["job.spec.overrides[learning_rat]"]
            assert "did you mean 'learning_rate'" in refusal.told.text
            assert not (await client.call(client.jobs.ListJobs, wire.ListJobsRequest())).jobs
        assert served.conductor.wakes == 0
        assert not (served.state / "jobs").exists()

    serve(tmp_path, check)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"job_id": "No"}, "job_id"),
        ({"request_id": "17"}, "request_id"),
        ({"scene": ""}, "job.spec.scene"),
        ({"scene": "lettres"}, "job.spec.scene"),
        ({"ranks": -1}, "job.spec.ranks"),
        ({"priority": 1001}, "job.priority"),
        ({"labels": {"a" * 64: ""}}, "job.labels[" + "a" * 63 + "]"),
        ({"labels": {"a": "b" * 64}}, "job.labels[a]"),
        ({"labels": {f"k{n}": "" for n in range(33)}}, "job.labels"),
        ({"time_limit": Duration(seconds=-1)}, "job.spec.time_limit"),
        ({"time_limit": Duration(seconds=10**12)}, "job.spec.time_limit"),
        ({"overrides": {"a b": "1"}}, "job.spec.overrides[a b]"),
        ({"overrides": {"plugin=/x": "1"}}, "job.spec.overrides[plugin=/x]"),
        ({"overrides": {"run_name": "x" * 20_000}}, "job.spec.overrides[run_name]"),
        ({"overrides": {f"s{n}": "" for n in range(201)}}, "job.spec.overrides"),
        ({"overrides": {"num_train_epochs": "many"}}, "job.spec.overrides[num_train_epochs]"),
        ({"inline_scene": "task: seq2label\nlearning_rate: fast\n"}, "job.spec.inline_scene"),
        ({"inline_scene": "x" * 300_000}, "job.spec.inline_scene"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, fields: dict[str, object], path: str) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            with refused("INVALID_ARGUMENT") as refusal:
                await client.create(**fields)
        assert refusal.told.fields == [path]
        assert len(refusal.told.text.encode()) <= 4096
        assert "Traceback" not in refusal.told.text
        assert "\n" not in refusal.told.text

    serve(tmp_path, check)


def test_jobs_are_changed_by_their_rules(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            jobs, made = client.jobs, await client.create()
            with refused("ABORTED"):
                await client.call(jobs.SuspendJob, wire.SuspendJobRequest(name=made.name, etag="other"))
            asked = wire.SuspendJobRequest(name=made.name, etag=made.etag, reason="makes way")
            held = await client.call(jobs.SuspendJob, asked)
            assert (held.state, held.state_reason) == (Job.SUSPENDED, "makes way")
            assert (await client.call(jobs.ResumeJob, wire.ResumeJobRequest(name=made.name))).state == Job.QUEUED
            ended = await client.call(jobs.CancelJob, wire.CancelJobRequest(name=made.name, grace=Duration(seconds=0)))
            assert ended.state == Job.CANCELLED
            assert await client.call(jobs.CancelJob, wire.CancelJobRequest(name=made.name)) == ended
            with refused("FAILED_PRECONDITION"):
                await client.call(jobs.ResumeJob, wire.ResumeJobRequest(name=made.name))
            assert (await client.call(jobs.RetryJob, wire.RetryJobRequest(name=made.name))).state == Job.QUEUED
            with refused("NOT_FOUND"):
                await client.call(jobs.CancelJob, wire.CancelJobRequest(name="jobs/nobody"))
            with refused("INVALID_ARGUMENT"):
                await client.call(jobs.CancelJob, wire.CancelJobRequest(name="nobody"))
            with refused("INVALID_ARGUMENT") as refusal:
                await client.call(jobs.CancelJob, wire.CancelJobRequest(name=made.name, grace=Duration(seconds=-1)))
            assert refusal.told.fields == ["grace"]

    serve(tmp_path, check)


def test_priority_and_labels_can_be_changed(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create(labels={"a": "1"}, priority=1)

            async def update(*paths: str, etag: str = "") -> Job:
                job = Job(name=made.name, priority=9, labels={"b": "2"}, etag=etag)
                request = wire.UpdateJobRequest(job=job, update_mask=FieldMask(paths=paths))
                changed: Job = await client.call(client.jobs.UpdateJob, request)
                return changed

            changed = await update("priority", etag=made.etag)
            assert (changed.priority, dict(changed.labels)) == (9, {"a": "1"})
            assert dict((await update("labels")).labels) == {"b": "2"}
            with refused("ABORTED"):
                await update("priority", etag=made.etag)
            with refused("INVALID_ARGUMENT") as refusal:
                await update("state")
            assert refusal.told.fields == ["update_mask"]

    serve(tmp_path, check)


def test_a_job_is_deleted_with_its_folder(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create(job_id="again")
            with refused("FAILED_PRECONDITION"):
                await client.call(client.jobs.DeleteJob, wire.DeleteJobRequest(name=made.name))
            await client.call(client.jobs.CancelJob, wire.CancelJobRequest(name=made.name))
            await client.call(client.jobs.DeleteJob, wire.DeleteJobRequest(name=made.name))
            assert not (served.state / "jobs" / "again").exists()
            with refused("NOT_FOUND"):
                await client.call(client.jobs.GetJob, wire.GetJobRequest(name=made.name))
            assert (await client.create(job_id="again")).uid != made.uid
            await client.call(client.jobs.DeleteJob, wire.DeleteJobRequest(name=made.name, force=True))
            assert list((served.state / ".deleted").iterdir()) == []

    serve(tmp_path, check)


def test_a_forced_deletion_waits_for_the_end(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create()
            served.start(made.name)
            request = wire.DeleteJobRequest(name=made.name, force=True)
            deletion = asyncio.ensure_future(client.call(client.jobs.DeleteJob, request))
            events = client.stream(client.jobs.WatchEvents, wire.WatchEventsRequest(job=made.name))
            async for event in events:
                if event.job.state == Job.CANCELLING:
                    served.finish(made.name)
                if event.type == wire.JobEvent.DELETED:
                    break
            await deletion
            assert not (served.state / made.name).exists()

    serve(tmp_path, check)


def test_pages_of_jobs(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = [await client.create(priority=number) for number in range(5)]
            request, seen = wire.ListJobsRequest(page_size=2, order_by="priority"), []
            while True:
                page = await client.call(client.jobs.ListJobs, request)
                seen += [job.name for job in page.jobs]
                if not page.next_page_token:
                    break
                request.page_token = page.next_page_token
            assert seen == [job.name for job in made]
            wrongs: list[dict[str, Any]] = [
                {"page_token": "x"},
                {"page_size": -1},
                {"filter": "a = 1"},
                {"order_by": "x"},
            ]
            for wrong in wrongs:
                with refused("INVALID_ARGUMENT") as refusal:
                    await client.call(client.jobs.ListJobs, wire.ListJobsRequest(**wrong))
                assert refusal.told.fields == list(wrong)

    serve(tmp_path, check)


def test_why_a_job_waits(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            made = await client.create()
            told = await client.call(client.jobs.ExplainJob, wire.ExplainJobRequest(name=made.name))
            assert (told.state, told.position, list(told.behind)) == (Job.QUEUED, 1, ["jobs/other"])
            assert told.predicted_start.seconds == 10**9

    serve(tmp_path, check)


def test_owners_and_roles(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        ada, bob, eve = served.user("ada"), served.user("bob"), served.user("eve", "viewer")
        async with served.client(ada) as client:
            made = await client.create(
                inline_scene=(served.data / "scenes" / "letters.yaml").read_text(), overrides={"seed": "3"}
            )
        served.start(made.name)
        for token in (bob, eve):
            async with served.client(token) as other:
                await _reads_only(other, made.name)
        async with served.client(eve) as viewer:
            with refused("PERMISSION_DENIED"):
                await viewer.create()
        async with served.client() as operator:
            seen = await operator.call(operator.jobs.GetJob, wire.GetJobRequest(name=made.name))
            assert seen.spec.overrides["seed"] == "3"
            await operator.call(operator.jobs.CancelJob, wire.CancelJobRequest(name=made.name))

    serve(tmp_path, check)


async def _reads_only(other: Client, name: str) -> None:
    """What somebody else may see of a job is its state."""
    jobs = other.jobs
    seen = await other.call(jobs.GetJob, wire.GetJobRequest(name=name))
    assert (seen.state, seen.spec.inline_scene, dict(seen.spec.overrides)) == (Job.RUNNING, "", {})
    (listed,) = (await other.call(jobs.ListJobs, wire.ListJobsRequest())).jobs
    assert listed == seen
    for event in await other.all(jobs.WatchEvents, wire.WatchEventsRequest(no_wait=True)):
        assert not event.job.spec.overrides
        assert not event.job.spec.inline_scene
    (attempt,) = (await other.call(jobs.ListAttempts, wire.ListAttemptsRequest(parent=name))).attempts
    assert not attempt.command
    for method, request in (
        (jobs.CancelJob, wire.CancelJobRequest(name=name)),
        (jobs.SuspendJob, wire.SuspendJobRequest(name=name)),
        (jobs.ResumeJob, wire.ResumeJobRequest(name=name)),
        (jobs.RetryJob, wire.RetryJobRequest(name=name)),
        (jobs.DeleteJob, wire.DeleteJobRequest(name=name, force=True)),
        (jobs.UpdateJob, wire.UpdateJobRequest(job=Job(name=name))),
        (jobs.ListArtifacts, wire.ListArtifactsRequest(parent=name)),
    ):
        with refused("PERMISSION_DENIED"):
            await other.call(method, request)
    for stream, asked in (
        (jobs.StreamLogs, wire.StreamLogsRequest(name=name)),
        (jobs.StreamMetrics, wire.StreamMetricsRequest(name=name)),
        (jobs.ReadArtifact, wire.ReadArtifactRequest(parent=name, path="scene.yaml")),
    ):
        with refused("PERMISSION_DENIED"):
            await other.all(stream, asked)


def test_the_catalogue(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            catalog = client.catalog
            metrics = await client.call(catalog.ListPlugins, wire.ListPluginsRequest(kind="metric"))
            assert "acc" in [plugin.name for plugin in metrics.plugins]
            assert len((await client.call(catalog.ListPlugins, wire.ListPluginsRequest())).plugins) > len(
                metrics.plugins
            )
            model = await client.call(catalog.GetPlugin, wire.GetPluginRequest(name="plugins/model/seq2label"))
            assert model.options
            scenes = (await client.call(catalog.ListScenes, wire.ListScenesRequest())).scenes
            assert ("letters", "Letters that are words or not.") in [(each.name, each.purpose) for each in scenes]
            request = wire.GetSceneRequest(name="scenes/letters", overrides={"seed": "7"})
            scene = await client.call(catalog.GetScene, request)
            assert {setting.name: setting.value for setting in scene.settings}["seed"] == "7"
            with refused("NOT_FOUND"):
                await client.call(catalog.GetPlugin, wire.GetPluginRequest(name="plugins/model/seq3label"))
            with refused("INVALID_ARGUMENT"):
                await client.call(catalog.ListPlugins, wire.ListPluginsRequest(kind="modell"))
            with refused("PERMISSION_DENIED"):
                await client.call(catalog.GetScene, wire.GetSceneRequest(name="scenes//etc/passwd"))

    serve(tmp_path, check)
