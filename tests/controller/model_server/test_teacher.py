"""A served model as a plugin: handshake, descriptors, names, payloads put aside, and its answers as labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from finished_models import ROWS, SCENES, folder_of
from model_servers import Served, answers_of, inline, loaded, rows, serve
from serving import refused

from deepgen.controller.model_server.model import ServedModel
from deepgen.controller.model_server.server import Settings
from deepgen.kernel import payload, wire_features
from deepgen.kernel.payload import to_predictions
from deepgen.kernel.portions import joined
from deepgen.kernel.probabilities import probabilities
from deepgen.kernel.shared_memory import Region
from deepgen.v1 import model_service_pb2, payload_pb2, plugin_service_pb2, processor_service_pb2
from deepgen.v1.plugin_pb2 import PluginDescriptor

TEXTS = [text for text, _, _ in ROWS]
wire: Any = plugin_service_pb2
SIZES = '''
"""A processor of a user's own."""
from dataclasses import dataclass

import pyarrow.compute as pc
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("size")
@dataclass
class Size(Processor):
    """The length of a text."""

    def fields(self):
        return (Field(self.output, "int64"),)

    def process(self, columns):
        return {self.output: pc.cast(pc.utf8_length(columns[0]), "int64")}
'''


def configured(kind: Any, instance: str = "i", name: str = "letters", **more: Any) -> Any:
    return wire.ConfigureRequest(instance=instance, kind=kind, name=name, **more)


def test_who_it_is_and_what_it_offers(model: ServedModel) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            hello = await client.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1, 9], nonce=b"\0\1"))
            assert (hello.protocol_version, hello.nonce) == (1, b"\0\1")
            assert hello.sharing == hello.SHARED
            assert set(hello.features) == {wire_features.PARTS, wire_features.LINES}, "memory is not shared by TCP"
            assert hello.plugin.startswith("letters (deepgen ")
            with refused("FAILED_PRECONDITION") as refusal:
                await client.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[2, 3]))
            assert refusal.told.text == "the host speaks versions 2, 3 of the protocol and this plugin 1"
            with refused("FAILED_PRECONDITION") as refusal:
                await client.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1], required_features=["x"]))
            assert refusal.told.text == "the host requires the feature 'x', which this plugin does not have"
            offered = list((await client.plugin.Describe(wire.DescribeRequest())).plugins)
            assert [one.kind for one in offered] == [PluginDescriptor.MODEL, PluginDescriptor.PROCESSOR]
            for one in offered:
                assert one.name == "letters"
                assert [(field.name, field.dtype) for field in one.inputs] == [("text", "string")]
                assert len(one.digest) == 32
            assert list(offered[0].fits) == ["single_label_classification"]
            assert (offered[1].least_columns, offered[1].most_columns) == (1, 1)
            assert (await client.plugin.Probe(wire.ProbeRequest())).ready
            for _ in range(2):
                await client.plugin.Shutdown(wire.ShutdownRequest())
            assert served.stopped.is_set()

    serve(model, check)


def test_another_model_has_another_digest(place: Path, model: ServedModel) -> None:
    def digest(*tokens: str, name: str = "score") -> str:
        return loaded(folder_of(place, name), *tokens, name="letters").descriptors("1")[0].digest

    own = model.descriptors("1")[0].digest
    assert digest() == own
    assert digest("--source_max_length=4") != own, "other settings answer otherwise"
    code = place / "sizes.py"
    code.write_text(SIZES)
    with_code = (f"--plugin={code}", "--predict_model_header=cls_tokenize:text:tokens,size:text:size")
    before = digest(*with_code)
    assert digest(*with_code) == before
    code.write_text(SIZES + "\n# changed\n")
    assert digest(*with_code) != before, "so does other code"
    config = folder_of(place, "score") / "config.json"
    config.write_text(config.read_text() + "\n")
    assert digest() != own, "so do other weights"


def test_names_are_kept_and_refused(model: ServedModel) -> None:
    async def check(served: Served) -> None:
        async with served.client() as client:
            request = configured(PluginDescriptor.MODEL)
            made = await client.plugin.Configure(request)
            assert [field.name for field in made.fields] == ["text"]
            assert (made.problem, list(made.class_names)) == ("single_label_classification", ["LABEL_0", "LABEL_1"])
            assert await client.plugin.Configure(request) == made
            asked = rows(["a"])
            asked.instance = "i"
            assert answers_of(await client.model.Predict(asked))
            with refused("ALREADY_EXISTS"):
                await client.plugin.Configure(configured(PluginDescriptor.PROCESSOR, inputs=["text"], output="labels"))
            asked_process = processor_service_pb2.ProcessRequest(instance="i", columns=inline({"text": ["a"]}))
            with refused("INVALID_ARGUMENT") as refusal:
                await client.processor.Process(asked_process)
            assert refusal.told.text == "instance 'i' is no processor"
            for _ in range(2):
                await client.plugin.Release(wire.ReleaseRequest(instance="i"))
            for call in (client.model.Predict(asked), client.processor.Process(asked_process)):
                with refused("NOT_FOUND"):
                    await call
            with refused("INVALID_ARGUMENT"):
                await client.plugin.Configure(configured(PluginDescriptor.MODEL, ""))
            mistakes = (
                ({"name": "other"}, "PluginError", "nothing is called 'other' here; letters is served"),
                ({"options": {"x": "1"}}, "PluginError", "letters has no options; x was given"),
                ({"inputs": ["a", "b"]}, "SceneError", "processor letters takes 1: text; 2 columns were given"),
            )
            wrong: Any
            for wrong, kind, words in mistakes:
                made = await client.plugin.Configure(configured(PluginDescriptor.PROCESSOR, "other", **wrong))
                assert (made.failure.kind, made.failure.message) == (kind, words)

    serve(model, check)


LABELS: dict[str, tuple[str, str, str]] = {
    "score": ("float32", "FIXED", "single_label_classification"),
    "multi_class": ("float32", "FIXED", "single_label_classification"),
    "regression": ("float32", "SCALAR", "regression"),
    "generation": ("string", "SCALAR", "text"),
}


@pytest.mark.parametrize("name", LABELS)
def test_answers_are_labels(place: Path, name: str) -> None:
    config, settings = SCENES["score"]
    header = {"train_model_header": "cls_tokenize:text:tokens,convert2float:label:labels"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCENES, "regression", (config, {**settings, **header, "output_type": "score"}))
        model = loaded(folder_of(place, name), name="teacher")
    dtype, shape, problem = LABELS[name]
    expected = joined([*model.predictor.predictions([pa.array(TEXTS)])[1]])
    assert expected.problem == problem

    async def check(served: Served) -> None:
        async with served.client() as client:
            request = configured(PluginDescriptor.PROCESSOR, "i", "teacher", inputs=["anything"], output="labels")
            (field,) = (await client.plugin.Configure(request)).fields
            assert (field.name, field.dtype, type(field).Shape.Name(field.shape)) == ("labels", dtype, shape)
            asked = processor_service_pb2.ProcessRequest(instance="i", columns=inline({"0": TEXTS}))
            found = payload.read((await client.processor.Process(asked)).fields.arrow).column("labels")
            if problem == "text":
                assert expected.texts is not None
                assert found.to_pylist() == [texts[0] for texts in expected.texts]
                return
            values = np.array(found.to_pylist(), np.float32)
            shares = probabilities(expected)
            np.testing.assert_allclose(values.reshape(shares.shape), shares, rtol=1e-3, atol=1e-4)
            if shape == "FIXED":
                np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
            asked.columns.CopyFrom(inline({"0": ["a", None]}))
            bad = (await client.processor.Process(asked)).bad_rows.rows
            assert [(one.row, one.reason) for one in bad] == [(1, "has no value")]
            asked.columns.CopyFrom(inline({"0": ["a"], "1": ["b"]}))
            with refused("INVALID_ARGUMENT"):
                await client.processor.Process(asked)

    serve(model, check)


def test_what_is_no_label_is_no_processor(place: Path) -> None:
    model = loaded(folder_of(place, "embedding"), "--single_tower=q")
    assert [one.kind for one in model.descriptors("1")] == [PluginDescriptor.MODEL]


def test_rows_come_in_parts_and_in_shared_memory(model: ServedModel, tmp_path: Path) -> None:
    texts = [f"{text} {number}" for number in range(800) for text in TEXTS[:1]]
    expected = joined([*model.predictor.predictions([pa.array(texts)])[1]])
    data = payload.written(pa.RecordBatch.from_pydict({"text": texts})).to_pybytes()

    async def check(served: Served) -> None:
        async with served.client() as client:
            probe = Region()
            hello = await client.plugin.Handshake(
                wire.HandshakeRequest(protocol_versions=[1], probe=probe.write(b"is it there?"))
            )
            assert wire_features.SHARED_MEMORY in hello.features
            assert hello.probe == b"is it there?"
            pieces = [wire.PutRequest(data=data[begin : begin + 1000]) for begin in range(0, len(data), 1000)]
            key = (await client.plugin.Put(iter(pieces))).key
            region = Region()
            for place in (payload_pb2.Payload(parts=key), payload_pb2.Payload(shared=region.write(data))):
                response = await client.model.Predict(model_service_pb2.PredictRequest(rows=place))
                batch = payload.read(response.answers.rows.arrow)
                found = to_predictions(batch, response.answers.problem, response.answers.class_names)
                assert found.scores is not None
                assert expected.scores is not None
                np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
            with refused("NOT_FOUND"):
                await client.model.Predict(model_service_pb2.PredictRequest(rows=payload_pb2.Payload(parts=key)))
            with refused("NOT_FOUND"):
                await client.plugin.Get(wire.GetRequest(key=key)).read()
            with refused("INVALID_ARGUMENT"):
                await client.plugin.Put(iter([wire.PutRequest(data=bytes((4 << 20) + 1))]))
            assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o600

    serve(model, check, Settings(f"unix:{tmp_path}/s"))
