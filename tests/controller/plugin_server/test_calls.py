"""Processors, metrics and outputters over a real socket: what they give, and what is said of mistakes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from plugin_servers import Served, Stubs, code_of, inline, rows_of, started

from deepgen.kernel import payload
from deepgen.kernel.contracts import Predictions
from deepgen.kernel.shared_memory import Region
from deepgen.kernel.stand_ins.columns import column_of
from deepgen.v1 import metric_service_pb2, outputter_service_pb2, payload_pb2, processor_service_pb2
from deepgen.v1 import plugin_service_pb2 as wire

FILE = str(Path(__file__).with_name("served.py"))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with started([FILE]) as found:
        stubs = found.stubs
        stubs.configure("measure", "processor", "measure", inputs=["text"], output="size", options={"unit": 2.0})
        for mode in ("odd", "mistake", "leave"):
            stubs.configure(mode, "processor", "measure", inputs=["text"], output="size", options={"mode": mode})
        stubs.configure("share", "metric", "share")
        stubs.configure("lines", "outputter", "lines")
        stubs.configure("backwards", "outputter", "backwards")
        yield found


def process(stubs: Stubs, instance: str, columns: Any, **more: Any) -> processor_service_pb2.ProcessResponse:
    given = columns if isinstance(columns, payload_pb2.Payload) else inline(columns)
    request = processor_service_pb2.ProcessRequest(instance=instance, columns=given, **more)
    answer: processor_service_pb2.ProcessResponse = stubs.processor.Process(request)
    return answer


def test_fields_and_what_was_cut(served: Served) -> None:
    texts = ["four", "a", "more than ten", "ä€😀"]
    answer = process(served.stubs, "measure", {"0": pa.array(texts)})
    assert rows_of(answer.fields).to_pydict() == {
        "size": [2.0, 0.5, 6.5, 1.5],
        "letters": [[ord(letter) for letter in text[:10]] for text in texts],
    }
    assert dict(answer.cut) == {"size": 1}
    answer = process(served.stubs, "measure", {"0": pa.array(["x"], pa.large_string())})
    assert dict(answer.cut) == {"size": 0}


def test_rows_that_cannot_be_read(served: Served) -> None:
    answer = process(served.stubs, "measure", {"0": pa.array(["bad", "good", "bad"])})
    assert answer.WhichOneof("result") == "bad_rows"
    assert [(row.row, row.column, row.value, row.reason) for row in answer.bad_rows.rows] == [
        (0, "text", "bad", "is bad"),
        (2, "text", "bad", "is bad"),
    ]


@pytest.mark.parametrize(
    ("instance", "kind", "message"),
    [
        ("odd", "DataError", "the first line and the second"),
        ("mistake", "PluginError", "processor 'measure' gave 3 values of 'letters' for 1 rows"),
        ("leave", "SystemExit", "3"),
    ],
)
def test_failures_keep_their_kind_and_their_trace(served: Served, instance: str, kind: str, message: str) -> None:
    failure = process(served.stubs, instance, {"0": pa.array(["x"])}).failure
    assert (failure.kind, failure.message) == (kind, message)
    assert failure.trace.startswith("Traceback (most recent call last)")
    assert process(served.stubs, "measure", {"0": pa.array(["x"])}).HasField("fields")


@pytest.mark.parametrize(
    ("instance", "columns", "code"),
    [
        ("none", {"0": pa.array(["x"])}, "NOT_FOUND"),
        ("share", {"0": pa.array(["x"])}, "INVALID_ARGUMENT"),
        ("measure", {"0": pa.array(["x"]), "1": pa.array(["x"])}, "INVALID_ARGUMENT"),
        ("measure", {"0": pa.array([1])}, "INVALID_ARGUMENT"),
        ("measure", {"0": pa.array(["x", None])}, "INVALID_ARGUMENT"),
        ("measure", {"0": pa.array([], pa.string())}, "INVALID_ARGUMENT"),
        ("measure", payload_pb2.Payload(), "INVALID_ARGUMENT"),
        ("measure", payload_pb2.Payload(arrow=b"no rows"), "INVALID_ARGUMENT"),
        ("measure", payload_pb2.Payload(parts="gone"), "NOT_FOUND"),
        ("measure", payload_pb2.Payload(shared=payload_pb2.SharedMemory(path=FILE, length=9)), "INVALID_ARGUMENT"),
    ],
)
def test_calls_that_break_the_protocol(served: Served, instance: str, columns: Any, code: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        process(served.stubs, instance, columns)
    assert code_of(error)[0] == code


def test_large_batches_go_through_memory_of_the_host(served: Served) -> None:
    texts = pa.array([f"{number:0200}" for number in range(20_000)])
    data = payload.written(payload.batch_of({"0": texts}))
    there, room = Region(), Region()
    room.grow(8 << 20)
    answer = process(served.stubs, "measure", payload_pb2.Payload(shared=there.write(data)), room=room.room())
    direct = process(served.stubs, "measure", {"0": texts})
    assert direct.fields.WhichOneof("place") == "arrow"
    assert answer.fields.WhichOneof("place") == "shared"
    assert payload.read(room.read(answer.fields.shared)).equals(rows_of(direct.fields))
    # an answer that is small, or too large for the room, comes in the message
    small = process(served.stubs, "measure", {"0": pa.array(["x"])}, room=room.room())
    assert small.fields.WhichOneof("place") == "arrow"
    little = Region()
    little.grow(4096)
    answer = process(served.stubs, "measure", {"0": texts}, room=little.room())
    assert rows_of(answer.fields).equals(rows_of(direct.fields))


def test_what_no_message_can_carry_goes_in_parts(served: Served) -> None:
    stubs = served.stubs
    stubs.configure("copy", "processor", "copy", inputs=["text"], output="copy")
    texts = pa.array(["0123456789" * 100] * 70_000)
    data = payload.written(payload.batch_of({"0": texts})).to_pybytes()
    pieces = (wire.PutRequest(data=data[start : start + (4 << 20)]) for start in range(0, len(data), 4 << 20))
    key = stubs.plugin.Put(pieces).key
    answer = process(stubs, "copy", payload_pb2.Payload(parts=key))
    assert answer.fields.WhichOneof("place") == "parts"
    whole = b"".join(one.data for one in stubs.plugin.Get(wire.GetRequest(key=answer.fields.parts)))
    assert len(whole) > 64 << 20
    assert payload.read(whole).column(0).equals(texts)
    with pytest.raises(grpc.RpcError) as error:
        process(stubs, "copy", payload_pb2.Payload(parts=key))
    assert code_of(error)[0] == "NOT_FOUND"  # it was taken


def test_fields_are_drawn_from_keys_alone(served: Served) -> None:
    letters = [np.array([1, 2, 3], np.int32), np.array([4], np.int32), np.array([], np.int32)]
    fields = inline({"letters": column_of(letters), "size": column_of(np.array([1, 2, 3], np.float32))})
    request = processor_service_pb2.DrawRequest(instance="measure", fields=fields, keys=[2, 2**64 - 1, 1])
    drawn = rows_of(served.stubs.processor.Draw(request).fields).to_pydict()
    assert drawn == {"letters": [[1, 2], [], []], "size": [2.0, 4.0, 6.0]}
    del request.keys[0]
    with pytest.raises(grpc.RpcError) as error:
        served.stubs.processor.Draw(request)
    assert code_of(error) == ("INVALID_ARGUMENT", "2 keys were given for 3 rows")


def predictions(scores: Any, **more: Any) -> payload_pb2.Predictions:
    made = Predictions(np.arange(len(scores)), "single_label_classification", np.array(scores, np.float32), **more)
    return payload_pb2.Predictions(rows=inline(payload.from_predictions(made)), problem=made.problem)


def test_a_metric_scores_states_that_travel(served: Served) -> None:
    metric = served.stubs.metric

    def update(scores: Any) -> payload_pb2.Payload:
        request = metric_service_pb2.UpdateRequest(instance="share", predictions=predictions(scores))
        state: payload_pb2.Payload = metric.Update(request).state
        return state

    states = [update([[1, 0], [0, 1]]), update([[math.nan, -1]]), update([[0, 1]])]
    assert payload.to_state(rows_of(states[1]))["hits"].tolist() == [1]
    for order in (states, states[::-1]):
        merged = metric.Merge(metric_service_pb2.MergeRequest(instance="share", states=order)).state
        answer = metric.Compute(metric_service_pb2.ComputeRequest(instance="share", state=merged))
        assert [score.key for score in answer.scores] == ["share", "none"]
        assert answer.scores[0].value == 0.5
        assert math.isnan(answer.scores[1].value)
    nothing = metric.Merge(metric_service_pb2.MergeRequest(instance="share")).state
    answer = metric.Compute(metric_service_pb2.ComputeRequest(instance="share", state=nothing))
    assert math.isnan(answer.scores[0].value)
    empty = payload_pb2.Payload(arrow=states[0].arrow)
    assert metric.Compute(metric_service_pb2.ComputeRequest(instance="share", state=empty)).scores[0].value == 0.5


def test_an_outputter_writes_rows(served: Served) -> None:
    outputter = served.stubs.outputter
    asked = outputter_service_pb2.ColumnsRequest(instance="lines", problem="text", result_columns=["text"])
    assert list(outputter.Columns(asked).columns) == ["text", "text"]
    given = predictions([[1, 0], [0, 1]], columns={"text": ["a", "b"]})
    answer = outputter.Format(outputter_service_pb2.FormatRequest(instance="lines", predictions=given))
    assert rows_of(answer.rows).to_pydict() == {"row": ["a\t0\n", "b\t1\n"]}
    none = predictions(np.zeros((0, 2)), columns={"text": []})
    answer = outputter.Format(outputter_service_pb2.FormatRequest(instance="lines", predictions=none))
    assert rows_of(answer.rows).num_rows == 0
    answer = outputter.Read(outputter_service_pb2.ReadRequest(instance="lines", row=b"a\t0\n", columns=["t", "n"]))
    assert [json.loads(line) for line in answer.lines] == [{"t": "a", "n": "0"}]
    answer = outputter.Read(outputter_service_pb2.ReadRequest(instance="backwards", row=b"\5", columns=["row"]))
    assert [json.loads(line) for line in answer.lines] == [{"row": 5.0, "all": [5]}]


def test_an_outputter_assembles_a_file(served: Served) -> None:
    outputter = served.stubs.outputter

    def requests(count: int) -> Iterator[outputter_service_pb2.AssembleRequest]:
        yield outputter_service_pb2.AssembleRequest(instance="backwards", count=count)
        for rows in ([b"a", b"b"], [b"c"]):
            yield outputter_service_pb2.AssembleRequest(rows=inline({"row": pa.array(rows, pa.binary())}))

    assert b"".join(one.data for one in outputter.Assemble(requests(3))) == b"0003cba"
    with pytest.raises(grpc.RpcError) as error:
        list(outputter.Assemble(requests(4)))
    assert code_of(error) == ("INVALID_ARGUMENT", "3 rows were given, and 4 were announced")
    lost = iter([outputter_service_pb2.AssembleRequest(instance="none", count=0)])
    with pytest.raises(grpc.RpcError) as error:
        list(outputter.Assemble(lost))
    assert code_of(error)[0] == "NOT_FOUND"


def test_a_stream_that_is_cancelled_leaves_the_instance_free(served: Served) -> None:
    outputter = served.stubs.outputter
    more, files = [True], f"/proc/{served.process.pid}/fd"

    def requests() -> Iterator[outputter_service_pb2.AssembleRequest]:
        yield outputter_service_pb2.AssembleRequest(instance="backwards", count=1 << 40)
        while more:
            yield outputter_service_pb2.AssembleRequest(rows=inline({"row": pa.array([b"x" * 1000])}))

    before = len(os.listdir(files))
    for _ in range(5):
        call = outputter.Assemble(requests())
        call.cancel()
    more.clear()
    first = outputter_service_pb2.AssembleRequest(instance="backwards", count=0)
    assert b"".join(one.data for one in outputter.Assemble(iter([first]))) == b"0000"
    assert len(os.listdir(files)) <= before + 1
