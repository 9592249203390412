"""The streams: logs by byte offset with a said end, the event watch without gaps, metrics, and artifacts."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from serving import Client, Served, refused, serve

from deepgen.controller.logs import CHUNK
from deepgen.kernel.events import EventStream
from deepgen.v1 import controller_pb2 as wire


def test_logs_are_the_bytes_of_the_files(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create(ranks=2)).name
            folder = served.start(name)
            written = {-1: b"launched\n", 0: os.urandom(3 * CHUNK + 17), 1: b""}
            (folder / "launcher.log").write_bytes(written[-1])
            (folder / "ranks" / "20260101000000_rank0.log").write_bytes(written[0])
            chunks = await client.all(client.jobs.StreamLogs, wire.StreamLogsRequest(name=name))
            assert not any(chunk.end for chunk in chunks)
            assert _joined(chunks) == {-1: written[-1], 0: written[0]}
            request = wire.StreamLogsRequest(name=f"{name}/attempts/1", ranks=[0], tail_bytes=10)
            assert _joined(await client.all(client.jobs.StreamLogs, request)) == {0: written[0][-10:]}
            served.finish(name)
            request = wire.StreamLogsRequest(
                name=name, ranks=[0], cursors=[wire.StreamLogsRequest.Cursor(rank=0, offset=CHUNK)]
            )
            chunks = await client.all(client.jobs.StreamLogs, request)
            assert [chunk.end for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
            assert (chunks[0].offset, chunks[-1].attempt) == (CHUNK, f"{name}/attempts/1")
            assert _joined(chunks) == {0: written[0][CHUNK:]}

    serve(tmp_path, check)


def test_a_followed_log_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            follower = asyncio.ensure_future(_follow(client, name))  # before there is an attempt
            folder = served.start(name)
            whole = b""
            for number in range(30):
                line = b"%d " % number * 1000 + b"\n"
                with (folder / "ranks" / "x_rank0.log").open("ab") as file:
                    file.write(line)
                whole += line
                await asyncio.sleep(0)
            served.finish(name)
            assert hashlib.sha256(await follower).digest() == hashlib.sha256(whole).digest()

    serve(tmp_path, check)


async def _follow(client: Client, name: str) -> bytes:
    """Cuts its own stream after each chunk, and goes on from there."""
    seen: bytes = b""
    while True:
        cursor = wire.StreamLogsRequest.Cursor(rank=0, offset=len(seen))
        call = client.stream(
            client.jobs.StreamLogs, wire.StreamLogsRequest(name=name, ranks=[0], cursors=[cursor], follow=True)
        )
        async for chunk in call:
            assert chunk.end or chunk.offset == len(seen)
            seen += chunk.data
            if chunk.end:
                return seen
            break
        call.cancel()


def test_logs_that_cannot_be_given(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            assert await client.all(client.jobs.StreamLogs, wire.StreamLogsRequest(name=name)) == []
            folder = served.start(name)
            secret = served.data / "secret"
            secret.write_text("hidden")
            (folder / "ranks" / "x_rank0.log").symlink_to(secret)
            (folder / "launcher.log").symlink_to(secret)
            assert await client.all(client.jobs.StreamLogs, wire.StreamLogsRequest(name=name)) == []
            for wrong, code, field in (
                ({"ranks": [1]}, "INVALID_ARGUMENT", ["ranks[0]"]),
                ({"cursors": [{"rank": 0, "offset": -1}]}, "INVALID_ARGUMENT", ["cursors[0].offset"]),
                ({"cursors": [{"rank": 0, "offset": 5}]}, "OUT_OF_RANGE", []),
                ({"name": f"{name}/attempts/2"}, "NOT_FOUND", []),
                ({"name": "jobs/none"}, "NOT_FOUND", []),
            ):
                asked: dict[str, Any] = {"name": name, **wrong}
                with refused(code) as refusal:
                    await client.all(client.jobs.StreamLogs, wire.StreamLogsRequest(**asked))
                assert refusal.told.fields == field

    serve(tmp_path, check)


def test_the_watch_has_no_gaps(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            first = await client.create()
            sequences: list[int] = []
            watching = asyncio.Event()

            async def watch() -> None:
                after = 0
                while len(sequences) < 40:
                    call = client.stream(client.jobs.WatchEvents, wire.WatchEventsRequest(after_sequence=after))
                    async for event in call:
                        after = event.sequence
                        if event.type == wire.JobEvent.HEARTBEAT:
                            watching.set()
                            continue
                        sequences.append(event.sequence)
                        if len(sequences) % 7 == 0 or len(sequences) == 40:
                            break
                    call.cancel()

            watcher = asyncio.ensure_future(watch())
            await watching.wait()
            await asyncio.gather(*(client.create(priority=number) for number in range(39)))
            await watcher
            assert sequences == list(range(1, 41))
            only = await client.all(client.jobs.WatchEvents, wire.WatchEventsRequest(job=first.name, no_wait=True))
            told = [(event.sequence, event.type, event.job.uid) for event in only]
            assert told == [(1, wire.JobEvent.CREATED, first.uid)]
            assert only[0].actor == first.owner

    serve(tmp_path, check)


def test_a_silent_watch_gives_signs_of_life(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            await client.create()
            call = client.stream(client.jobs.WatchEvents, wire.WatchEventsRequest(after_sequence=1))
            beats = [await call.read() for _ in range(3)]
            assert {(beat.type, beat.sequence) for beat in beats} == {(wire.JobEvent.HEARTBEAT, 1)}
            call.cancel()

    serve(tmp_path, check, heartbeat=0.05)


def test_a_compacted_watch_says_where_the_record_begins(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            for _ in range(5):
                await client.create()
            served.store.write(lambda transaction: transaction.compact(2)).result()
            for after in (0, 2):
                with refused("OUT_OF_RANGE") as refusal:
                    await client.all(client.jobs.WatchEvents, wire.WatchEventsRequest(after_sequence=after))
                assert (refusal.told.reason, refusal.told.facts) == ("COMPACTED", {"first_sequence": "4"})
            request = wire.WatchEventsRequest(after_sequence=3, no_wait=True)
            assert [event.sequence for event in await client.all(client.jobs.WatchEvents, request)] == [4, 5]
            with refused("OUT_OF_RANGE") as refusal:
                await client.all(client.jobs.WatchEvents, wire.WatchEventsRequest(after_sequence=6))
            assert refusal.told.reason == "AHEAD"
            with refused("NOT_FOUND"):
                await client.all(client.jobs.WatchEvents, wire.WatchEventsRequest(after_sequence=5, job="jobs/none"))

    serve(tmp_path, check)


def test_a_server_that_stops_does_not_let_a_stream_look_complete(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            (served.start(name) / "launcher.log").write_text("launched\n")
            watch = client.stream(client.jobs.WatchEvents, wire.WatchEventsRequest(after_sequence=3))
            logs = client.stream(client.jobs.StreamLogs, wire.StreamLogsRequest(name=name, follow=True))
            streams = [aiter(watch), aiter(logs)]
            for stream in streams:
                await anext(stream)
            stopping = asyncio.ensure_future(served.server.stop(5))
            for stream in streams:
                with refused("UNAVAILABLE"):
                    async for _ in stream:
                        pass
            await stopping

    serve(tmp_path, check)


def test_metrics_of_a_run(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            served.start(name)
            run = EventStream(served.state / name / "run")
            run.stage("train")
            run.progress("train", 1, 2, step=1, epoch=0.5, values={"loss": 2.5}, rows_per_second=10.0)
            points = await client.all(client.jobs.StreamMetrics, wire.StreamMetricsRequest(name=name))
            (point,) = points
            assert (point.sequence, point.stage, point.step) == (2, "train", 1)
            assert dict(point.values) == {"loss": 2.5, "rows_per_second": 10.0}
            follower = asyncio.ensure_future(
                client.all(
                    client.jobs.StreamMetrics, wire.StreamMetricsRequest(name=name, after_sequence=2, follow=True)
                )
            )
            run.scored("eval", {"eval_auc": 0.75}, step=2, epoch=1.0)
            with (served.state / name / "run" / "events.jsonl").open("ab") as file:
                file.write(b'{"scored": spoilt\n{"sequence": "4", "scored": {"sco')  # cut short by a kill
            served.finish(name)
            scored, end = await follower
            assert dict(scored.values) == {"eval_auc": 0.75}
            assert (scored.stage, scored.sequence) == ("eval", 3)
            assert (end.end, end.sequence, dict(end.values)) == (True, 3, {})

    serve(tmp_path, check)


def test_artifacts_are_listed_and_read_with_their_checksum(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            assert not (await client.call(client.jobs.ListArtifacts, wire.ListArtifactsRequest(parent=name))).artifacts
            run = served.state / name / "run"
            (run / "model").mkdir(parents=True)
            content = os.urandom(3 * CHUNK + 5)
            (run / "model" / "weights").write_bytes(content)
            (run / "empty").touch()
            listed = await client.call(client.jobs.ListArtifacts, wire.ListArtifactsRequest(parent=name))
            assert [(each.path, each.size) for each in listed.artifacts] == [
                ("empty", 0),
                ("model/weights", len(content)),
            ]
            for offset in (0, 1, CHUNK, len(content)):
                request = wire.ReadArtifactRequest(parent=name, path="model/weights", offset=offset)
                chunks = await client.all(client.jobs.ReadArtifact, request)
                assert b"".join(chunk.data for chunk in chunks) == content[offset:]
                assert chunks[0].offset == offset
                assert (chunks[-1].sha256, chunks[-1].size) == (hashlib.sha256(content).hexdigest(), len(content))
            (last,) = await client.all(client.jobs.ReadArtifact, wire.ReadArtifactRequest(parent=name, path="empty"))
            assert last.sha256 == hashlib.sha256().hexdigest()
            with refused("OUT_OF_RANGE"):
                await client.all(
                    client.jobs.ReadArtifact, wire.ReadArtifactRequest(parent=name, path="empty", offset=1)
                )

    serve(tmp_path, check)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "../scene.yaml", "a/../../scene.yaml", "./b", "a//b", "b\0", "x" * 5000],
)
def test_a_path_cannot_leave_the_run_folder(tmp_path: Path, path: str) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            (served.state / name / "run" / "a").mkdir(parents=True)
            with refused("INVALID_ARGUMENT") as refusal:
                await client.all(client.jobs.ReadArtifact, wire.ReadArtifactRequest(parent=name, path=path))
            assert refusal.told.fields == ["path"]

    serve(tmp_path, check)


def test_a_link_cannot_leave_the_run_folder(tmp_path: Path) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            name = (await client.create()).name
            run = served.state / name / "run"
            run.mkdir(parents=True)
            (run / "passwd").symlink_to("/etc/passwd")
            (run / "data").symlink_to(served.data)
            (run / "inside").symlink_to(run)
            os.mkfifo(run / "pipe")
            listed = await client.call(client.jobs.ListArtifacts, wire.ListArtifactsRequest(parent=name))
            assert not listed.artifacts
            for path in ("passwd", "data/rows.tsv", "inside/passwd", "pipe", "data"):
                with refused("NOT_FOUND"):
                    await client.all(client.jobs.ReadArtifact, wire.ReadArtifactRequest(parent=name, path=path))
            run.rename(run.with_name("moved"))
            run.symlink_to(served.data)
            assert not (await client.call(client.jobs.ListArtifacts, wire.ListArtifactsRequest(parent=name))).artifacts
            with refused("NOT_FOUND"):
                await client.all(client.jobs.ReadArtifact, wire.ReadArtifactRequest(parent=name, path="rows.tsv"))

    serve(tmp_path, check)


def _joined(chunks: list[wire.LogChunk]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for chunk in chunks:
        if chunk.data:
            found[chunk.rank] = found.get(chunk.rank, b"") + chunk.data
    return found
