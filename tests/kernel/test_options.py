"""Options are declared as dataclass fields and read from text by their declared type."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from deepgen.kernel.errors import PluginError
from deepgen.kernel.options import Alias, InputPath, Option, Range, build, options_of


@dataclass(frozen=True)
class Parent:
    """Options that are inherited."""

    size: Annotated[int, Range(1, 10), Alias("width", "breadth")] = 3
    """How large it is.

    In metres.
    """


@dataclass(frozen=True)
class Example(Parent):
    """All kinds of options."""

    rate: float = 0.5
    """A rate."""
    on: bool = True
    mode: Literal["auto"] | bool = "auto"
    stage: Literal[0, 1] = 0
    text: str = ""
    maybe: str | None = None
    count: int | None = None
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    mapping: dict[str, str] = field(default_factory=dict)
    config: Annotated[dict[str, Any] | str | None, InputPath] = None


OPTIONS = {option.name: option for option in options_of(Example, "test")}


def test_declaration() -> None:
    size = OPTIONS["size"]
    assert (size.default, size.aliases, size.range) == (3, ("width", "breadth"), Range(1, 10))
    assert size.help == "How large it is.\n\nIn metres."
    assert (OPTIONS["rate"].help, OPTIONS["on"].help) == ("A rate.", "")
    assert OPTIONS["config"].is_path
    assert next(iter(OPTIONS)) == "size"


@pytest.mark.parametrize(
    ("range_", "words"),
    [
        (Range(0, 2**32 - 1), "from 0 to 4294967295"),
        (Range(0.5), "from 0.5 on"),
        (Range(float("-inf"), 9), "up to 9"),
    ],
)
def test_ranges_in_words(range_: Range, words: str) -> None:
    assert str(range_) == words


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("size", "whole number from 1 to 10"),
        ("rate", "number"),
        ("on", "true or false"),
        ("mode", "auto or true or false"),
        ("stage", "one of 0, 1"),
        ("maybe", "text"),
        ("names", "list of text"),
        ("mapping", "mapping"),
        ("config", "mapping or path"),
    ],
)
def test_kinds_in_words(name: str, kind: str) -> None:
    assert OPTIONS[name].kind == kind


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("size", "10", 10),
        ("size", " 7 ", 7),
        ("rate", "1e-4", 1e-4),
        ("rate", "3", 3.0),
        ("on", "False", False),
        ("on", "0", False),
        ("on", "YES", True),
        ("mode", "auto", "auto"),
        ("mode", "off", False),
        ("stage", "1", 1),
        ("text", "none", "none"),
        ("text", "", ""),
        ("text", " a ", " a "),
        ("maybe", "none", None),
        ("maybe", None, None),
        ("maybe", "", None),
        ("count", "null", None),
        ("count", "2", 2),
        ("names", "a, b", ("a", "b")),
        ("names", ["a", "b:c"], ("a", "b:c")),
        ("names", "", ()),
        ("names", "a,,b", ("a", "", "b")),
        ("names", [], ()),
        ("numbers", "1,2", (1, 2)),
        ("mapping", "a:1,b:2", {"a": "1", "b": "2"}),
        ("mapping", "x:y:1", {"x:y": "1"}),
        ("mapping", {"on": "1"}, {"on": "1"}),
        ("config", "ds.json", "ds.json"),
        (
            "config",
            {"a": {"b": "1e-3", "c": "auto"}, "d": ["1", "true"]},
            {"a": {"b": 1e-3, "c": "auto"}, "d": [1, True]},
        ),
        ("config", {"a": None, "b": "null"}, {"a": None, "b": None}),
    ],
)
def test_good_values(name: str, raw: Any, value: Any) -> None:
    parsed = OPTIONS[name].parse(raw)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("size", "0", "below the least value, 1"),
        ("size", "11", "above the greatest value, 10"),
        ("size", "1.5", "not a whole number"),
        ("size", None, "has no value; it takes a whole number"),
        ("size", ["1"], "not a whole number"),
        ("rate", "nan", "not a number"),
        ("rate", "inf", "not a number"),
        ("on", "maybe", "not true or false"),
        ("stage", "2", "not one of 0, 1"),
        ("mode", "aut", "did you mean 'auto'"),
        ("names", {"a": "b"}, "not a list of text"),
        ("names", [{"a": "b"}], "space after the colon"),
        ("numbers", "1,x", "not a list of whole number"),
        ("mapping", "a:1,b", "name:value"),
        ("mapping", "a:1,a:2", "'a' twice"),
        ("mapping", "ab", "not a mapping"),
        ("mapping", {"a": {"b": "1"}}, "one value"),
    ],
)
def test_bad_values(name: str, raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OPTIONS[name].parse(raw)


def test_build() -> None:
    assert build(Example, {"size": 4}, "test") == Example(size=4)
    with pytest.raises(PluginError, match="test has no option 'siez'; did you mean 'size'"):
        build(Example, {"siez": 4}, "test")


def test_an_option_has_a_default() -> None:
    @dataclass
    class Bare:
        size: int

    with pytest.raises(PluginError, match="'size' has no default"):
        options_of(Bare, "test")


def test_the_type_of_an_option_is_known() -> None:
    @dataclass
    class Strange:
        size: Nowhere = None  # type: ignore[name-defined] # noqa: F821 - that is the mistake

    with pytest.raises(PluginError, match="type of option 'size' is not known"):
        options_of(Strange, "test")


@pytest.mark.parametrize(
    ("kind", "default", "words"),
    [
        (complex, 1j, "the type complex; it can be bool, int, float, str, Literal"),
        (Path | None, None, "the type pathlib.Path | None; it can be"),
        (tuple, (), "the type tuple; it can be"),
        (tuple[complex, ...], (), "the type tuple[complex, ...]; it can be"),
        (tuple[int | str, ...], (), "the type tuple[int | str, ...]; it can be"),
        (Literal[1.5], 1.5, "the type typing.Literal[1.5]; it can be"),
        (str, Path("x"), "a default of the type PosixPath, which cannot be written in a scene"),
        (dict[str, Any], {"a": [1j]}, "a default of the type dict, which cannot be written in a scene"),
    ],
    ids=str,
)
def test_an_option_that_no_scene_could_hold(kind: Any, default: Any, words: str) -> None:
    made = make_dataclass("Made", [("given", kind, field(default_factory=lambda: default))])
    with pytest.raises(PluginError) as error:
        options_of(made, "test")
    assert str(error.value).startswith(f"test: option 'given' of the class Made has {words}")


def test_a_default_that_cannot_be_made() -> None:
    made = make_dataclass("Made", [("given", int, field(default_factory=lambda: 1 // 0))])
    with pytest.raises(PluginError, match="'given' has a default that cannot be made: ZeroDivisionError: integer"):
        options_of(made, "test")


def test_a_class_without_options() -> None:
    assert options_of(Option.__class__, "test") == ()
