"""The plugins of sample/plugins/node, which need no Python: their own tests, and the same answers as Python's."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest

from deepgen.kernel import payload, schemas
from deepgen.kernel.contracts import BadRows, Metric, Predictions
from deepgen.kernel.options import options_of
from deepgen.kernel.registry import find
from deepgen.v1 import metric_service_pb2 as metrics
from deepgen.v1 import payload_pb2, plugin_pb2
from deepgen.v1 import plugin_service_pb2 as plugins
from deepgen.v1 import processor_service_pb2 as processors
from deepgen.v1.metric_service_pb2_grpc import MetricServiceStub
from deepgen.v1.plugin_service_pb2_grpc import PluginServiceStub
from deepgen.v1.processor_service_pb2_grpc import ProcessorServiceStub

SAMPLE = Path(__file__).parents[2] / "sample" / "plugins" / "node"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")
RANDOM = np.random.default_rng(5)
TOKEN = (("authorization", "Bearer secret"),)


def done(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample outside the tree, with its packages and the protocol of the installed DeepGen."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    version = done(["node", "--version"], SAMPLE).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"node is {version}; the sample needs version 20 or later")
    copy = tmp_path_factory.mktemp("node") / "my plugins"
    shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("node_modules", "protos"))
    installed = done(["npm", "ci", "--prefer-offline"], copy)
    if installed.returncode and any(word in installed.stderr for word in NO_NETWORK):
        pytest.skip("npm cannot reach its registry")
    assert installed.returncode == 0, installed.stderr
    copied = done(["npm", "run", "protos"], copy)
    assert copied.returncode == 0, copied.stderr
    return copy


class Program:
    """The program as the kernel starts it."""

    def __init__(self, folder: Path, where: Path) -> None:
        mine, its = socket.socketpair()
        with its:
            environment = {**os.environ, "DEEPGEN_PLUGIN_FD": str(its.fileno())}
            self.process = subprocess.Popen([folder / "my_plugins"], env=environment, pass_fds=(its.fileno(),))
        self.mine = mine
        line = {"protocol_versions": [1], "token": "secret", "socket": str(where)}
        mine.sendall(json.dumps(line).encode() + b"\n")
        with mine.makefile() as said:
            assert json.loads(said.readline()) == {"ready": True}
        sizes = [(f"grpc.max_{way}_message_length", (64 << 20) + (64 << 10)) for way in ("send", "receive")]
        self.channel = grpc.insecure_channel(f"unix:{where}", options=sizes)
        self.plugin = PluginServiceStub(self.channel)
        self.processor = ProcessorServiceStub(self.channel)
        self.metric = MetricServiceStub(self.channel)

    def configure(self, kind: plugin_pb2.PluginDescriptor.Kind.ValueType, name: str, **options: Any) -> str:
        """The name of an instance."""
        instance = f"{name} {options}"
        request = plugins.ConfigureRequest(
            instance=instance,
            kind=kind,
            name=name,
            options={option: json.dumps(value) for option, value in options.items()},
            inputs=["label"],
            output="labels",
        )
        answer = self.plugin.Configure(request, metadata=TOKEN)
        assert not answer.HasField("failure"), answer
        return instance

    def close(self) -> int:
        self.channel.close()
        self.mine.close()
        return self.process.wait(10)


@pytest.fixture(scope="module")
def program(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    made = Program(folder, tmp_path_factory.mktemp("run") / "plugin.sock")
    yield made
    assert made.close() == -9  # it ends at once with its host


def arrow(batch: pa.RecordBatch) -> payload_pb2.Payload:
    return payload_pb2.Payload(arrow=payload.written(batch).to_pybytes())


def test_its_own_tests_pass(folder: Path) -> None:
    tested = done(["npm", "test"], folder)
    assert tested.returncode == 0, tested.stdout


def test_the_handshake_and_what_it_offers(program: Program) -> None:
    memory = os.memfd_create("probe")
    os.write(memory, b"....seen")
    shared = payload_pb2.SharedMemory(path=f"/proc/{os.getpid()}/fd/{memory}", offset=4, length=4)
    request = plugins.HandshakeRequest(protocol_versions=[1], nonce=b"\xff", probe=shared)
    answer = program.plugin.Handshake(request, metadata=TOKEN)
    os.close(memory)
    assert (answer.protocol_version, answer.nonce, answer.probe) == (1, b"\xff", b"seen")
    described = program.plugin.Describe(plugins.DescribeRequest(), metadata=TOKEN).plugins
    assert [one.name for one in described] == ["node_int", "node_acc", "node_f1"]
    made = schemas.options_class("Made", (), [option for one in described for option in one.options])
    offset, threshold = options_of(made, "x")
    assert (offset.kind, offset.default, threshold.kind, threshold.default) == ("whole number", 0, "number", 0.0)
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
            rows = [row for row in rows if row not in {one[0] for one in bad}]


def test_numbers_are_read_as_by_convert2int(program: Program) -> None:
    instance = program.configure(plugin_pb2.PluginDescriptor.PROCESSOR, "node_int")
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
        columns = arrow(pa.RecordBatch.from_pydict({"label": pa.array(given, pa.string())}))
        return program.processor.Process(processors.ProcessRequest(instance=instance, columns=columns), metadata=TOKEN)

    numbers, bad = integers(cells)
    found = [(one.row, one.column, one.value, one.reason) for one in process(cells).bad_rows.rows]
    assert set(found) == bad
    assert [one[0] for one in found] == sorted({one[0] for one in bad})
    good = [cell for row, cell in enumerate(cells) if row not in {one[0] for one in bad}]
    made = payload.read(process(good).fields.arrow)
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
    program: Program, name: str, key: str, like: str, like_key: str, draw: Callable[[int, int], Predictions]
) -> None:
    instance = program.configure(plugin_pb2.PluginDescriptor.METRIC, name)
    python: Metric = find("metric", like).plugin()  # type: ignore[assignment]

    def update(given: Predictions) -> payload_pb2.Payload:
        message = payload_pb2.Predictions(rows=arrow(payload.from_predictions(given)), problem=given.problem)
        request = metrics.UpdateRequest(instance=instance, predictions=message)
        return program.metric.Update(request, metadata=TOKEN).state

    def merge(*states: payload_pb2.Payload) -> payload_pb2.Payload:
        return program.metric.Merge(metrics.MergeRequest(instance=instance, states=states), metadata=TOKEN).state

    def score(state: payload_pb2.Payload) -> float:
        request = metrics.ComputeRequest(instance=instance, state=state, class_names=["a", "b"])
        (one,) = program.metric.Compute(request, metadata=TOKEN).scores
        assert one.key == key
        return one.value

    for rows, classes in [(1, 1), (7, 1), (64, 2), (500, 3), (300, 7)]:
        whole = draw(rows, classes)
        want = python.compute(python.update(whole))[like_key]
        cuts = [slice(0, rows // 3), slice(rows // 3, rows // 2), slice(rows // 2, rows)]
        states = [update(part(whole, rows)) for rows in cuts]
        assert score(update(whole)) == want
        assert score(merge(merge(states[2], states[0]), states[1])) == want
        if name == "node_acc":  # what the kernel does for a metric without `merge`
            kept = [payload.to_state(payload.read(state.arrow)) for state in states]
            assert [len(state["hit"]) for state in kept] == [cut.stop - cut.start for cut in cuts]
            assert score(arrow(payload.from_state(python.merge(kept)))) == want
    nothing = score(arrow(payload.from_state({})))
    assert np.isnan(nothing)
    assert payload.to_state(payload.read(merge().arrow)) == {}


def test_a_large_batch_goes_through_memory_that_is_shared(program: Program) -> None:
    instance = program.configure(plugin_pb2.PluginDescriptor.PROCESSOR, "node_int", node_int_offset=-3)
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
    shared = program.processor.Process(request, metadata=TOKEN).fields.shared
    assert (shared.path, shared.offset) == (path, size)
    made = payload.read(os.pread(memory, shared.length, shared.offset))
    os.close(memory)
    np.testing.assert_array_equal(made["labels"].to_numpy(), np.arange(rows) - 3)
