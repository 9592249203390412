"""The plugins of sample/plugins/node, which need no Python: their own tests, and the same answers as Python's."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from node_sample import done, installed
from plugin_servers import OPTIONS, Served, Stubs, inline, launched, rows_of

from deepgen.kernel import payload, schemas
from deepgen.kernel.connections import connect
from deepgen.kernel.contracts import BadRows, Metric, Predictions
from deepgen.kernel.options import options_of
from deepgen.kernel.registry import find
from deepgen.kernel.stand_ins.classes import classes_at
from deepgen.v1 import metric_service_pb2 as metrics
from deepgen.v1 import payload_pb2
from deepgen.v1 import plugin_service_pb2 as plugins
from deepgen.v1 import processor_service_pb2 as processors

RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.getbasetemp())


@pytest.fixture
def program(folder: Path) -> Iterator[Served]:
    with launched([str(folder / "my_plugins")]) as (process, host, path):
        assert host.makefile().readline() == '{"ready":true}\n'
        with grpc.insecure_channel(f"unix:{path}", OPTIONS) as channel:
            yield Served(process, host, path, Stubs(channel))


def configured(program: Served, kind: str, name: str, **options: Any) -> str:
    """The name of an instance."""
    answer = program.stubs.configure("mine", kind, name, options=options, inputs=["label"], output="labels")
    assert not answer.HasField("failure"), answer
    return "mine"


def test_its_own_tests_pass(folder: Path) -> None:
    tested = done(["npm", "test"], folder)
    assert tested.returncode == 0, tested.stdout


def test_it_conforms(folder: Path) -> None:
    endpoint = f"exec:{shlex.quote(str(folder / 'my_plugins'))}"
    checked = done([sys.executable, "-m", "deepgen.controller.cli", "plugin", "check", endpoint, "--quick"], folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_ends_at_once_with_its_host_and_well_when_asked(folder: Path, program: Served) -> None:
    program.host.close()
    assert program.process.wait(20) == -9
    with launched([str(folder / "my_plugins")]) as (process, host, path):
        host.makefile().readline()
        with grpc.insecure_channel(f"unix:{path}") as channel:
            Stubs(channel).plugin.Shutdown(plugins.ShutdownRequest())
            assert process.wait(20) == 0  # though the connection is still there


def test_the_handshake_and_what_it_offers(program: Served) -> None:
    memory = os.memfd_create("probe")
    os.write(memory, b"....seen")
    shared = payload_pb2.SharedMemory(path=f"/proc/{os.getpid()}/fd/{memory}", offset=4, length=4)
    request = plugins.HandshakeRequest(protocol_versions=[1], nonce=b"\xff", probe=shared)
    answer = program.stubs.plugin.Handshake(request)
    os.close(memory)
    assert (answer.protocol_version, answer.nonce, answer.probe) == (1, b"\xff", b"seen")
    described = program.stubs.plugin.Describe(plugins.DescribeRequest()).plugins
    assert [one.name for one in described] == ["node_int", "node_acc", "node_f1"]
    made = schemas.options_class("Made", (), [option for one in described for option in one.options])
    offset, threshold = options_of(made, "x")
    assert (offset.kind, offset.default) == ("whole number from -1000000000 to 1000000000", 0)
    assert (threshold.kind, threshold.default) == ("number from -100 to 100", 0.0)
    assert (offset.parse("-1"), threshold.parse("0.5")) == (-1, 0.5)
    with pytest.raises(ValueError, match="below the least value"):
        offset.parse("-1000000001")
    assert [schemas.field_of(field).dtype for field in described[0].outputs] == ["int64"]


def integers(cells: list[str | None]) -> tuple[list[int], set[tuple[int, str, str, str]]]:
    """What `convert2int` makes of the good rows, and every bad one."""
    processor: Any = find("processor", "convert2int").plugin()
    processor.bind(("label",), "labels")
    rows = list(range(len(cells)))
    bad: set[tuple[int, str, str, str]] = set()
    while True:  # it names what is too large only when all else is right
        try:
            made = processor.process([pa.array([cells[row] for row in rows], pa.string())])
            return made["labels"].to_pylist(), bad
        except BadRows as error:
            bad.update((rows[one.row], one.column, one.value, one.reason) for one in error.rows)
            refused = {row for row, *_ in bad}
            rows = [row for row in rows if row not in refused]


def test_numbers_are_read_as_by_convert2int(program: Served) -> None:
    instance = configured(program, "processor", "node_int")
    signs, spaces = ["", "+", "-", "--", "0", "-00"], ["", " ", "\t", "\n", "\x1f", "\x85", "\xa0", "\u2028", "\ufeff"]
    drawn = [
        f"{spaces[RANDOM.integers(9)]}{signs[RANDOM.integers(6)]}{RANDOM.integers(2**62)}{spaces[RANDOM.integers(9)]}"
        for _ in range(2000)
    ]
    edges = [str(2**63 - 1), str(2**63), str(-(2**63)), str(-(2**63) - 1), "0" * 5000 + "7", "9" * 5000]
    wrong = ["", " ", "x", "1.0", "0x1F", "1e3", "1_000", "٣", "1 2", "nan", "1\n2", "1n", "\0" + "1", None]
    around = [chr(code) + "1" for code in range(0x3100) if not 0xD800 <= code < 0xE000]
    cells: list[str | None] = [*drawn, *edges, *wrong, *around]

    def process(given: list[str | None]) -> Any:
        columns = inline({"label": pa.array(given, pa.string())})
        return program.stubs.processor.Process(processors.ProcessRequest(instance=instance, columns=columns))

    numbers, bad = integers(cells)
    found = [(one.row, one.column, one.value, one.reason) for one in process(cells).bad_rows.rows]
    assert set(found) == bad
    refused = {row for row, *_ in bad}
    assert [row for row, *_ in found] == sorted(refused)
    good = [cell for row, cell in enumerate(cells) if row not in refused]
    made = rows_of(process(good).fields)
    assert made.schema.field("labels").type == pa.int64()
    assert made["labels"].to_pylist() == numbers
    assert len(numbers) > 1000


def one_of_several(rows: int, classes: int) -> Predictions:
    scores = RANDOM.choice(np.array([-1, 0, 0.5, 2, np.nan, np.inf], np.float32), (rows, classes))
    labels = RANDOM.integers(0, max(classes, 2), rows)
    return Predictions(np.arange(rows), "single_label_classification", scores, labels=labels)


def any_of_several(rows: int, classes: int) -> Predictions:
    made = one_of_several(rows, classes)
    labels = RANDOM.integers(0, 2, (rows, classes)).astype(np.float32)
    return Predictions(made.rows, "multi_label_classification", made.scores, labels=labels)


def part(whole: Predictions, rows: slice) -> Predictions:
    assert whole.scores is not None
    assert whole.labels is not None
    return Predictions(whole.rows[rows], whole.problem, whole.scores[rows], labels=whole.labels[rows])


@pytest.mark.parametrize(
    ("name", "key", "like", "like_key", "draw"),
    [
        ("node_acc", "node_acc", "acc", "acc", one_of_several),
        ("node_acc", "node_acc", "acc", "acc", any_of_several),
        ("node_f1", "node_f1_macro", "f1", "f1_macro", one_of_several),
    ],
)
def test_scores_are_those_of_the_metrics_in_python(
    program: Served, name: str, key: str, like: str, like_key: str, draw: Callable[[int, int], Predictions]
) -> None:
    instance = configured(program, "metric", name)
    python: Metric = find("metric", like).plugin()  # type: ignore[assignment]

    def update(given: Predictions) -> payload_pb2.Payload:
        message = payload_pb2.Predictions(rows=inline(payload.from_predictions(given)), problem=given.problem)
        request = metrics.UpdateRequest(instance=instance, predictions=message)
        made: payload_pb2.Payload = program.stubs.metric.Update(request).state
        return made

    def merge(*states: payload_pb2.Payload) -> payload_pb2.Payload:
        request = metrics.MergeRequest(instance=instance, states=states)
        made: payload_pb2.Payload = program.stubs.metric.Merge(request).state
        return made

    def score(state: payload_pb2.Payload) -> float:
        request = metrics.ComputeRequest(instance=instance, state=state, class_names=["a", "b"])
        (one,) = program.stubs.metric.Compute(request).scores
        assert one.key == key
        return float(one.value)

    for rows, classes in [(1, 1), (7, 1), (64, 2), (500, 3), (300, 7)]:
        whole = draw(rows, classes)
        want = python.compute(python.update(whole))[like_key]
        cuts = [slice(0, rows // 3), slice(rows // 3, rows // 2), slice(rows // 2, rows)]
        states = [update(part(whole, rows)) for rows in cuts]
        assert score(update(whole)) == want
        assert score(merge(merge(states[2], states[0]), states[1])) == want
        if name == "node_acc":  # what the kernel does for a metric without `merge`
            kept = [payload.to_state(rows_of(state)) for state in states]
            assert [len(state["hit"]) for state in kept] == [cut.stop - cut.start for cut in cuts]
            assert score(inline(payload.from_state(python.merge(kept)))) == want
    nothing = score(inline(payload.from_state({})))
    assert np.isnan(nothing)
    assert payload.to_state(rows_of(merge())) == {}


def test_a_large_batch_goes_through_memory_that_is_shared(program: Served) -> None:
    instance = configured(program, "processor", "node_int", node_int_offset=-3)
    rows = 300_000
    bytes_ = payload.written(pa.RecordBatch.from_pydict({"label": pa.array(map(str, range(rows)), pa.string())}))
    memory = os.memfd_create("batch")
    size = len(bytes_)
    os.write(memory, bytes_)
    os.truncate(memory, size + (4 << 20))
    path = f"/proc/{os.getpid()}/fd/{memory}"
    request = processors.ProcessRequest(
        instance=instance,
        columns=payload_pb2.Payload(shared=payload_pb2.SharedMemory(path=path, offset=0, length=size)),
        room=payload_pb2.SharedMemory(path=path, offset=size, length=4 << 20),
    )
    shared = program.stubs.processor.Process(request).fields.shared
    assert (shared.path, shared.offset) == (path, size)
    made = payload.read(os.pread(memory, shared.length, shared.offset))
    os.close(memory)
    np.testing.assert_array_equal(made["labels"].to_numpy(), np.arange(rows) - 3)


def test_the_kernel_takes_every_type_and_shape(folder: Path) -> None:
    endpoint = f"exec:{shlex.quote(str(folder / 'test' / 'odd_plugins'))}"
    made: Any = {one.name: one for one in classes_at(connect(endpoint))}
    letters = made["letters"](most=2, prefix="x")
    letters.bind(("first", "second"), "o")
    assert [field.shape for field in letters.fields()] == ["ragged", "fixed", "scalar", "scalar"]
    assert (letters.class_names(), letters.reference_column()) == (("no", "yes"), "second")
    columns = letters.process([pa.array(["abc", "", "\ufeffé"]), pa.array(["1", "22", ""])])
    assert columns["o_codes"].to_pylist() == [[97, 98], [], [0xFEFF, 0xE9]]
    assert columns["o_sizes"].to_pylist() == [[3, 1], [0, 2], [2, 0]]
    assert columns["o_text"].to_pylist() == ["abc1", "22", "\ufeffé"]
    assert letters.cut == {"o_codes": 1}
    wide = made["wide"]()
    wide.bind(("text",), "o")
    cells = [chr(33 + row) for row in range(66)]  # a MiB for each, more than a message holds
    assert wide.process([pa.array(cells)])["o"].to_pylist() == [cell * (1 << 20) for cell in cells]


def test_the_kernel_gets_back_the_state_of_a_metric(folder: Path) -> None:
    endpoint = f"exec:{shlex.quote(str(folder / 'test' / 'odd_plugins'))}"
    everything: Any = next(one for one in classes_at(connect(endpoint)) if one.name == "everything")()
    given = Predictions(
        rows=np.array([2**62, 7]),
        problem="text",
        scores=np.array([[1, np.nan], [np.inf, -0.0]], np.float32),
        texts=[["\ufeffbest", "next"], []],
        references=["é", ""],
        class_names=("a", "b"),
        columns={"a:b": ["x", "y\tz"]},
        vectors={"q": np.arange(6.0).reshape(2, 3)},
        more={"half": np.array([0.5, -2], np.float16), "cube": np.arange(8, dtype=np.int32).reshape(2, 2, 2)},
    )
    state = everything.merge([everything.update(given)] * 2)
    for name, value in {"scores": given.scores, "vector": given.vectors["q"], "cube": given.more["cube"]}.items():
        assert value is not None
        assert state[name].dtype == value.dtype
        np.testing.assert_array_equal(state[name], np.concatenate([value, value]))
    assert state["rows"].tolist() == [2**62, 7] * 2
    assert state["half"].tolist() == [0.5, -2] * 2
    assert state["best"].tolist() == ["\ufeffbest", ""] * 2
    assert state["kept"].tolist() == ["x", "y\tz"] * 2
    assert state["empty"].tolist() == [False, True] * 2
    assert everything.compute(state, ("a",)) == {"sum": 2.0**63 + 14, "named": 1.0}
