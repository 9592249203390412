"""What a plugin declares is the same after it has been a message."""

import json

import pytest

from deepgen.kernel import registry, schemas
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.descriptors import describe
from deepgen.kernel.errors import PluginError
from deepgen.kernel.options import Option, options_of
from deepgen.v1 import plugin_pb2

TEXT = plugin_pb2.OptionType(kind=plugin_pb2.OptionType.TEXT)
PLUGINS = [(kind, name) for kind in registry.KINDS for name in sorted(registry.names(kind))]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_options_are_the_same(kind: str, name: str) -> None:
    plugin = registry.find(kind, name).plugin
    made = schemas.options_class("Made", (), describe(registry.find(kind, name)).options)
    for option, again in zip(options_of(plugin, "x"), options_of(made, "x"), strict=True):
        assert (again.name, again.help, again.aliases, again.range) == (
            option.name,
            option.help,
            option.aliases,
            option.range,
        )
        assert (again.kind, again.choices, again.default) == (option.kind, option.choices, option.default)
        assert (again.is_path, again.is_model) == (option.is_path, option.is_model)
        assert schemas.given(option, json.dumps(option.default)) == option.default


def test_a_choice_of_numbers_travels_as_words() -> None:
    rel_pos_type = next(o for o in options_of(registry.find("model", "unilm").plugin, "x") if o.name == "rel_pos_type")
    made = schemas.options_class("Made", (), [schemas.option_message(rel_pos_type)])
    again: Option = options_of(made, "x")[0]
    assert schemas.given(rel_pos_type, json.dumps(again.parse("2"))) == 2


@pytest.mark.parametrize(
    "field",
    [
        Field("a", "int64"),
        Field("b", "float32", "fixed"),
        Field("c", "int64", "ragged", "pad_token", "mask", "right", True),
        Field("d", "int64", "ragged", -100),
        Field("e", "string"),
    ],
)
def test_fields_are_the_same(field: Field) -> None:
    assert schemas.field_of(schemas.field_message(field)) == field


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (plugin_pb2.Field(name="a", dtype="int8"), "'a' is 'int8'; it can be"),
        (plugin_pb2.Field(name="a", dtype="int64", side="up"), "'a' is padded at 'up'"),
        (plugin_pb2.Field(name="a", dtype="int64", padding="zero"), "'a' is padded with 'zero'"),
        (plugin_pb2.Field(name="a", dtype="int64", shape=9), "'a' has the shape 9, which this version"),  # type: ignore[arg-type]
    ],
)
def test_a_field_that_cannot_be_is_refused(message: plugin_pb2.Field, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        schemas.field_of(message)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (plugin_pb2.Option(name="two words"), "'two words' has a name that is none"),
        (plugin_pb2.Option(name="class"), "'class' has a name that is none"),
        (plugin_pb2.Option(name="bind"), "'bind' has the name of what each plugin of its kind has"),
        (plugin_pb2.Option(name="a"), "'a' declares no types"),
        (
            plugin_pb2.Option(
                name="a", types=[plugin_pb2.OptionType(kind=plugin_pb2.OptionType.TEXT)], default_json="x"
            ),
            "'a' has a default that is no JSON: x",
        ),
    ],
)
def test_an_option_that_cannot_be_is_refused(option: plugin_pb2.Option, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        schemas.options_class("Made", (Processor,), [option])


def test_an_option_is_declared_once() -> None:
    option = plugin_pb2.Option(name="a", types=[plugin_pb2.OptionType(kind=plugin_pb2.OptionType.TEXT)])
    with pytest.raises(PluginError, match="'a' is declared twice"):
        schemas.options_class("Made", (), [option, option])
