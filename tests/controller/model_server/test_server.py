"""A model behind gRPC: answers are those of the model itself, whoever else asks, and refusals say what is wrong."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pyarrow as pa
import pytest
from finished_models import ROWS, WORDS, folder_of
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_servers import Client, Served, answers_of, inline, loaded, rows, serve
from serving import refused

from deepgen.controller.model_server.batching import Bounds
from deepgen.controller.model_server.model import Answer, ServedModel
from deepgen.controller.model_server.server import Settings
from deepgen.controller.model_server.waiting import Piece
from deepgen.kernel.portions import joined
from deepgen.v1 import model_service_pb2

TEXTS = [text for text, _, _ in ROWS]


class Steps(ServedModel):
    """The same model, which waits before each batch until it may go on."""

    def __init__(self, model: ServedModel) -> None:
        vars(self).update(vars(model))
        self.begun: queue.Queue[int] = queue.Queue()
        self.go_on: queue.Queue[None] = queue.Queue()
        self.free = threading.Event()
        self.asked: list[int] = []
        """Rows of each batch."""

    def __call__(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Answer]]:
        self.asked.append(sum(map(len, pieces)))
        if not self.free.is_set():
            self.begun.put(self.asked[-1])
            self.go_on.get(timeout=60)
        yield from super().__call__(pieces)

    async def begin(self) -> int:
        """Waits for the next batch, and gives its rows."""
        return await asyncio.to_thread(self.begun.get, timeout=60)

    def finish(self) -> None:
        self.free.set()
        self.go_on.put(None)


def test_answers_are_those_of_the_model(model: ServedModel) -> None:
    wanted = joined([*model.predictor.predictions([pa.array(TEXTS)])[1]])
    scores_here = wanted.scores
    assert scores_here is not None
    lines = model.lines(wanted)

    async def check(served: Served) -> None:
        async with served.client() as client:
            response = await client.model.Predict(rows(TEXTS, lines=True, other=list(range(40))))
            assert response.answers.problem == "single_label_classification"
            assert list(response.answers.class_names) == ["LABEL_0", "LABEL_1"]
            found = answers_of(response)
            assert list(found) == ["scores", "line"]
            np.testing.assert_allclose(found["scores"], scores_here, rtol=1e-4, atol=1e-5)
            for line, other in zip(found["line"], lines, strict=True):
                (text, scores), (wanted_text, wanted_scores) = line.split(b"\t"), other.split(b"\t")
                assert text == wanted_text
                assert [float(score) for score in scores.split(b",")] == pytest.approx(
                    [float(score) for score in wanted_scores.split(b",")], rel=1e-3
                )
            assert list(answers_of(await client.model.Predict(rows(TEXTS)))) == ["scores"]
            numbers = answers_of(await client.model.Predict(rows([1, 2])))
            texts = answers_of(await client.model.Predict(rows(["1", "2"])))
            assert numbers == texts, "numbers are read as text"

    serve(model, check)


@pytest.mark.parametrize("name", ["generation", "embedding", "formatter"])
def test_every_kind_of_answer_is_served(place: Path, name: str) -> None:
    more = ["--single_tower=q"] if name == "embedding" else []
    model = loaded(folder_of(place, name), *more)
    expected = joined([*model.predictor.predictions([pa.array(WORDS)])[1]])
    wanted = [model.lines(expected)[row] for row in range(len(WORDS))]

    async def check(served: Served) -> None:
        async with served.client() as client:
            found = answers_of(await client.model.Predict(rows(WORDS, lines=True)))
            if name == "embedding":
                np.testing.assert_allclose(found["vector:q"], expected.vectors["q"], rtol=1e-4, atol=1e-5)
            else:
                assert found["texts"] == expected.texts
                assert found["line"] == wanted

    serve(model, check)


def test_many_clients_at_once_get_exactly_their_own(model: ServedModel) -> None:
    wanted = joined([*model.predictor.predictions([pa.array(TEXTS)])[1]])
    assert wanted.scores is not None
    by_text = dict(zip(TEXTS, wanted.scores.tolist(), strict=True))
    steps = Steps(model)

    async def ask(served: Served, number: int) -> None:
        random = np.random.default_rng(number)
        async with served.client() as client:
            for _ in range(6):
                texts = random.choice(TEXTS, random.integers(1, 12)).tolist()
                found = answers_of(await client.model.Predict(rows(texts)))["scores"]
                np.testing.assert_allclose(found, [by_text[text] for text in texts], rtol=1e-3, atol=1e-4)

    async def check(served: Served) -> None:
        asking = asyncio.gather(*(ask(served, number) for number in range(16)))
        await steps.begin()
        steps.finish()
        await asking

    serve(steps, check, Settings("127.0.0.1:0", bounds=Bounds(window=0.001, max_batch=32)))
    assert max(steps.asked) > 12, "requests have shared batches"
    assert max(steps.asked) <= 32


def test_a_large_request_and_a_stream_come_back_in_order(model: ServedModel) -> None:
    wanted = joined([*model.predictor.predictions([pa.array(TEXTS)])[1]])
    scores_here = wanted.scores
    assert scores_here is not None
    parts = [TEXTS[begin : begin + 1 + begin % 3] for begin in range(37)]

    async def check(served: Served) -> None:
        async with served.client() as client:
            large = answers_of(await client.model.Predict(rows(TEXTS * 5)))["scores"]
            np.testing.assert_allclose(large, np.tile(scores_here, (5, 1)), rtol=1e-3, atol=1e-4)
            answers = [answers_of(one) async for one in client.model.PredictStream(rows(part) for part in parts)]
            assert len(answers) == len(parts)
            for place, (part, found) in enumerate(zip(parts, answers, strict=True)):
                scores = scores_here[place : place + len(part)]
                np.testing.assert_allclose(found["scores"], scores, rtol=1e-3, atol=1e-4)

    serve(model, check, Settings("127.0.0.1:0", bounds=Bounds(window=0, max_batch=16, max_waiting=200)))


def test_wrong_requests_are_refused_with_their_field(model: ServedModel) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"txt": ["a"]}, "rows.text", "there is no column 'text'; letters reads text"),
        ({"text": pa.array([], pa.string())}, "rows", "rows has no rows; send one at least"),
        ({"text": [{"a": 1}]}, "rows", "column 'text' is of type struct<a: int64>, which is no text or number"),
    ]

    async def check(served: Served) -> None:
        async with served.client() as client:
            for columns, field, words in cases:
                request = model_service_pb2.PredictRequest(rows=inline(columns))
                with refused("INVALID_ARGUMENT") as refusal:
                    await client.model.Predict(request)
                assert refusal.told.fields == [field]
                assert words in refusal.told.text
            request = rows(["a", "good"])
            request.rows.arrow = request.rows.arrow.replace(b"agood", b"\xff\xfeood")
            with refused("INVALID_ARGUMENT") as refusal:
                await client.model.Predict(request)
            assert "is no Arrow IPC stream: In column 0: Invalid: Invalid UTF8" in refusal.told.text
            request.rows.arrow = request.rows.arrow[:40]
            with refused("INVALID_ARGUMENT") as refusal:
                await client.model.Predict(request)
            assert refusal.told.fields == ["rows"]
            request = rows(["a"])
            request.instance = "nobody"
            with refused("NOT_FOUND"):
                await client.model.Predict(request)
            response = await client.model.Predict(rows(["a", None, "b", None]))
            assert [(row.row, row.column, row.reason) for row in response.bad_rows.rows] == [
                (1, "text", "has no value"),
                (3, "text", "has no value"),
            ]
            with refused("INVALID_ARGUMENT"):
                stream = client.model.PredictStream(iter([rows(["a"]), rows([]), rows(["b"])]))
                assert len(answers_of(await stream.read())["scores"]) == 1
                await stream.read()
            assert answers_of(await client.model.Predict(rows(["a"])))

    serve(model, check)


def test_a_client_that_gives_up_harms_nobody(model: ServedModel) -> None:
    steps = Steps(model)

    async def check(served: Served) -> None:
        async with served.client() as client, served.client() as other:
            first = asyncio.ensure_future(_whole(client, ["first"]))
            assert await steps.begin() == 1
            stream = client.model.PredictStream(iter([rows(TEXTS), rows(TEXTS)]))
            gone = client.model.Predict(rows(TEXTS))
            late = client.model.Predict(rows(TEXTS), timeout=0.2)
            stays = asyncio.ensure_future(_whole(other, ["a", "b"]))
            while served.server.waiting < 4 * len(TEXTS) + 2 and not late.done():
                await asyncio.sleep(0.01)
            assert stream.cancel()
            assert gone.cancel()
            with refused("DEADLINE_EXCEEDED"):
                await late
            steps.go_on.put(None)
            assert await steps.begin() == 2, "what nobody waits for costs no forward"
            steps.finish()
            assert len(await first) == 1
            assert len(await stays) == 2

    serve(steps, check)


def test_what_the_model_raises_is_a_failure_of_that_request(model: ServedModel) -> None:
    """Also where it is a TimeoutError, as of a processor that asks elsewhere: that is no deadline of the caller's."""

    class Failing(ServedModel):
        def __init__(self) -> None:
            vars(self).update(vars(model))

        def __call__(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Answer]]:
            raise TimeoutError("the dictionary does not answer")

    async def check(served: Served) -> None:
        async with served.client() as client:
            failure = (await client.model.Predict(rows(["a"]))).failure
            assert (failure.kind, failure.message) == ("TimeoutError", "the dictionary does not answer")

    serve(Failing(), check)


def test_too_much_is_refused_for_now(model: ServedModel) -> None:
    steps = Steps(model)

    async def check(served: Served) -> None:
        async with served.client() as client:
            asked = [asyncio.ensure_future(_whole(client, ["first"]))]
            await steps.begin()
            asked.append(asyncio.ensure_future(_whole(client, TEXTS)))
            while served.server.waiting < len(TEXTS):
                await asyncio.sleep(0.01)
            with refused("RESOURCE_EXHAUSTED") as refusal:
                await client.model.Predict(rows(TEXTS[:20]))
            assert refusal.told.reason == "WAITING"
            assert "40 rows are waiting, and these are 20; at most 50 may wait: ask again later" in refusal.told.text
            stream = client.model.PredictStream(iter([rows(TEXTS[:20]), rows(TEXTS[:20])]))  # waits for room
            steps.finish()
            assert [len(answers_of(one)["scores"]) async for one in stream] == [20, 20]
            assert [len(found) for found in await asyncio.gather(*asked)] == [1, 40]

    serve(steps, check, Settings("127.0.0.1:0", bounds=Bounds(window=0, max_batch=16, max_waiting=50)))


def test_what_waits_is_answered_at_the_end(model: ServedModel) -> None:
    steps = Steps(model)

    async def check(served: Served) -> None:
        async with served.client() as client, grpc.aio.insecure_channel(served.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service="deepgen.v1.ModelService"))
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            asked = [asyncio.ensure_future(_whole(client, TEXTS[:count])) for count in (1, 2, 3)]
            whole = client.model.PredictStream(iter([rows(["a"]), rows(["b"])]))
            idle = client.model.PredictStream()
            await idle.write(rows(["a"]))
            await steps.begin()
            while served.server.waiting < 8:
                await asyncio.sleep(0.01)
            stopping = asyncio.ensure_future(served.server.stop(30))
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            steps.finish()
            assert [len(found) for found in await asyncio.gather(*asked)] == [1, 2, 3]
            assert len(answers_of(await idle.read())["scores"]) == 1
            with refused("UNAVAILABLE"):
                await idle.read()
            assert [len(answers_of(one)["scores"]) async for one in whole] == [1, 1], "its client had said all"
            await stopping

    serve(steps, check, Settings("127.0.0.1:0", bounds=Bounds(window=0, max_batch=1)))


async def _whole(client: Client, texts: list[str]) -> list[Any]:
    return answers_of(await client.model.Predict(rows(texts)))["scores"]
