"""Checks of what a plugin says of itself: the help, the checks of a scene and the docs are made from it."""

from __future__ import annotations

import json

from deepgen.v1.plugin_pb2 import PluginDescriptor
from deepgen.v1.plugin_service_pb2 import DescribeRequest

from ...kernel.descriptors import ABILITIES
from ...kernel.errors import PluginError
from ...kernel.options import options_of
from ...kernel.schemas import options_class
from .case import Case
from .checks import Skipped, Wrong, check, equal, one_of
from .server import Server

PROBLEMS = (
    "regression",
    "single_label_classification",
    "multi_label_classification",
    "text",
    "masked_text",
    "embedding",
)


@check("describe.offers", "It offers at least one plugin, each kind and name once.", of="server")
def offers(server: Server) -> None:
    named = [(plugin.kind, plugin.name) for plugin in server.plugins]
    if not named:
        raise Wrong("Describe", "no plugin", "at least one")
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise Wrong("Describe", f"'{twice[1]}' twice", "each kind and name once")


@check("describe.stable", "It describes its plugins the same each time, and after it was started again.", of="server")
def stable(server: Server) -> None:
    first = server.wire.ask(server.wire.plugin.Describe, DescribeRequest())
    equal("Describe again", server.wire.ask(server.wire.plugin.Describe, DescribeRequest()), first)
    if server.is_ours:
        with server.another() as (_, wire):
            equal("Describe of another process", wire.ask(wire.plugin.Describe, DescribeRequest()), first)


@check("describe.complete", "Each plugin has a kind, a name that a scene can use, a summary and a version or digest.",
       of="plugin")  # fmt: skip
def complete(case: Case) -> None:
    of = case.descriptor
    if of.kind not in PluginDescriptor.Kind.values() or of.kind == PluginDescriptor.KIND_UNSPECIFIED:
        raise Wrong("Describe", f"kind {of.kind}", "PROCESSOR, MODEL, METRIC or OUTPUTTER")
    if not of.name or set(of.name) & set(" :,\t\n"):
        raise Wrong("Describe", f"the name {of.name!r}", "one word without a colon or comma")
    if not of.summary.strip() or "\n" in of.summary.strip():
        raise Wrong(f"Describe of {of.name}", f"the summary {of.summary!r}", "one line that says what it does")
    if not of.version and not of.digest:
        raise Wrong(f"Describe of {of.name}", "no version and no digest", "one of them: what it made is kept by it")


@check("describe.options", "Each option has a name, help, types, and a default of one of its types.", of="plugin")
def options(case: Case) -> None:
    for option in case.descriptor.options:
        given = f"option {option.name!r}"
        if not option.help.strip():
            raise Wrong(given, "no help", "a sentence that says what it does")
        if not option.type.strip():
            raise Wrong(given, "no type in words", "such as 'whole number'")
        if not option.types:
            raise Wrong(given, "no types for programs", "at least one")
        for kind in option.types:
            if kind.kind == kind.CHOICE and not kind.choices:
                raise Wrong(given, "a choice without choices", "the words that are accepted")
        if not option.has_default:
            raise Wrong(given, "no default", "a default; null where it may be left without a value")
        if (option.default_json or "null") == "null" and not option.nullable:
            raise Wrong(given, "the default null, and it is not nullable", "nullable, or a default")
    try:
        declared = options_of(options_class("Declared", (), case.descriptor.options), case.title)
    except PluginError as error:
        raise Wrong("its options", error, "options that a scene can set") from None
    for known in declared:
        value = json.loads(
            next(one.default_json or "null" for one in case.descriptor.options if one.name == known.name)
        )
        if isinstance(value, bool | int | float):
            try:
                known.parse(json.dumps(value))
            except ValueError as error:
                raise Wrong(
                    f"option {known.name!r}", f"the default {value}, which {error}", "a default of its type"
                ) from None


@check("describe.kind", "It says its columns, the problems it fits, or the ending of its file, as its kind has them.",
       of="plugin")  # fmt: skip
def by_kind(case: Case) -> None:
    of = case.descriptor
    if case.kind == "processor" and not 1 <= of.least_columns <= of.most_columns:
        raise Wrong("Describe", f"{of.least_columns} to {of.most_columns} columns", "1 or more, the least first")
    if case.kind in ("metric", "outputter"):
        if not of.fits:
            raise Wrong("Describe", "no problem that it fits", f"some of {', '.join(PROBLEMS)}")
        for problem in of.fits:
            one_of("the problems it fits", problem, PROBLEMS)
    if case.kind == "outputter" and (not of.extension.startswith(".") or len(of.extension) < 2):
        raise Wrong("Describe", f"the extension {of.extension!r}", "such as '.txt'")


@check("describe.abilities", "Its abilities are among those of its kind, and are what it does.", of="plugin")
def abilities(case: Case) -> None:
    known = ABILITIES[case.kind]
    for ability in case.descriptor.abilities:
        one_of(f"the abilities of a {case.kind}", ability, known)
    if len(set(case.descriptor.abilities)) < len(case.descriptor.abilities):
        raise Wrong("Describe", list(case.descriptor.abilities), "each ability once")


@check("describe.inputs", "A model names the fields that it needs.", of="model")
def inputs(case: Case) -> None:
    if not case.descriptor.inputs:
        raise Wrong("Describe", "no inputs", "the columns of its predict header")
    names = [field.name for field in case.descriptor.inputs]
    if len(set(names)) < len(names):
        raise Wrong("Describe", names, "each name once")
    if not all(field.dtype == "string" for field in case.descriptor.inputs):
        raise Skipped("it takes features, not text")
