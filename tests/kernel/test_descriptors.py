"""Plugins and scenes as protobuf messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.kernel import registry
from deepgen.kernel.descriptors import describe, describe_scene
from deepgen.kernel.settings import load
from deepgen.v1.plugin_pb2 import Field, PluginDescriptor
from deepgen.v1.scene_pb2 import Origin


def test_a_processor() -> None:
    message = describe(registry.find("processor", "cls_tokenize"))
    assert (message.kind, message.name, message.source) == (PluginDescriptor.PROCESSOR, "cls_tokenize", "in the tree")
    assert message.version
    assert message.summary.startswith("Token ids of one column")
    assert [field.name for field in message.inputs] == ["column1", "column2"]
    ids = message.outputs[0]
    assert (ids.name, ids.dtype, ids.shape, ids.padding) == ("input_ids", "int64", Field.RAGGED, "pad_token")
    length = message.options[0]
    assert (length.name, list(length.aliases), length.type) == (
        "source_max_length",
        ["tok_max_length"],
        "whole number from 1 on",
    )
    assert length.help
    assert length.has_default


def test_other_kinds() -> None:
    assert [field.name for field in describe(registry.find("model", "seq2label")).inputs] == ["input_ids", "labels"]
    assert "rougeL" in [field.name for field in describe(registry.find("metric", "rouge")).outputs]
    assert [field.name for field in describe(registry.find("outputter", "generation")).outputs] == ["text", "j"]
    schedule = next(o for o in describe(registry.find("trainer", "common")).options if o.name == "save_strategy")
    assert list(schedule.choices) == ["no", "steps", "epoch"]


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_every_plugin_can_be_described(kind: str) -> None:
    for name in registry.names(kind):
        message = describe(registry.find(kind, name))
        assert PluginDescriptor.FromString(message.SerializeToString()) == message


def test_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("task: seq2label\nlabel_mapping: {b: 0, a: 1}\ntrain_model_header: label_mapping:y\n")
    message = describe_scene(load("mine.yaml", ["--seed", "3"]))
    assert (message.name, message.path) == ("mine", "mine.yaml")
    settings = {setting.name: setting for setting in message.settings}
    assert (settings["seed"].value, settings["seed"].origin.kind) == ("3", Origin.COMMAND_LINE)
    mapping = settings["label_mapping"]
    assert (mapping.value, mapping.origin.file, mapping.origin.line) == ('{"b": "0", "a": "1"}', "mine.yaml", 2)
    assert mapping.declared_by == "processor label_mapping"
    assert settings["zero_stage"].origin.kind == Origin.DEFAULT
    assert ("trainer", "common") in [(plugin.kind, plugin.name) for plugin in message.plugins]
