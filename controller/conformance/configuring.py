"""Checks of instances: the same configuration changes nothing, a wrong one is refused, and none is missed."""

from __future__ import annotations

import json

from deepgen.v1.plugin_pb2 import Option, OptionType
from deepgen.v1.plugin_service_pb2 import ConfigureRequest

from .case import Case
from .checks import Skipped, Wrong, check, equal, one_of
from .far import Far
from .server import Server
from .subject import Failed
from .wire import Refused

_STRANGE = {
    OptionType.BOOL: "maybe",
    OptionType.INTEGER: "a few",
    OptionType.NUMBER: "a few",
    OptionType.TEXT: ["one", "two"],
    OptionType.CHOICE: "no such choice",
    OptionType.LIST: {"key": "value"},
    OptionType.MAPPING: 5,
}
"""Values that are none of that type."""


@check("configure.defaults", "It can be configured, and an option that is left out has its default.", of="plugin")
def defaults(case: Case) -> None:
    try:
        first = case.configured()
    except Failed as failed:
        raise Wrong(f"the options {case.options or 'by default'}", failed, "an instance; give --options") from None
    spelled = {option.name: option.default_json or "null" for option in case.descriptor.options}
    try:
        again = case.configured("spelled", {**spelled, **case.options})
    except Failed as failed:
        raise Wrong("each default, spelled out", failed, "as without them") from None
    case.released("spelled")
    equal("each default, spelled out", again, first)


@check("configure.repeated", "The same configuration again gives the same answer.", of="plugin")
def repeated(case: Case) -> None:
    case.main  # noqa: B018 - skipped where it cannot be configured
    first = case.configured()
    for _ in range(2):
        equal("the same configuration again", case.configured(), first)


@check("configure.taken", "Another configuration under a name that is taken is ALREADY_EXISTS.",
       of="plugin", needs_wire=True)  # fmt: skip
def taken(case: Case) -> None:
    instance = case.main
    inputs = ("other", *case.inputs[1:])
    subject = _far(case)
    try:
        subject.configure(instance, case.options, inputs, "other")
    except (Refused, Failed) as refused:
        code = refused.code if isinstance(refused, Refused) else str(refused)
        equal("another configuration of the same instance", code, "ALREADY_EXISTS")
    else:
        raise Wrong("another configuration of the same instance", "an answer", "ALREADY_EXISTS")
    case.configured()


@check("configure.option_unknown", "An option that it does not declare is refused by name.", of="plugin")
def option_unknown(case: Case) -> None:
    _refused(case, "an option 'no_such_option'", {"no_such_option": "1"}, "no_such_option")


@check("configure.option_type", "A value of another type than the option's is refused.", of="plugin")
def option_type(case: Case) -> None:
    tried = 0
    for option in case.descriptor.options:
        kinds = {kind.kind for kind in option.types}
        if len(option.types) != 1 or not kinds & set(_STRANGE):
            continue
        value = _STRANGE[option.types[0].kind]
        _refused(case, f"{option.name}: {json.dumps(value)}", {option.name: json.dumps(value)}, option.name)
        tried += 1
    if not tried:
        raise Skipped("it has no option of one type")


@check("configure.option_range", "A number outside the range of an option is refused.", of="plugin")
def option_range(case: Case) -> None:
    tried = 0
    for option in case.descriptor.options:
        for value in _beyond(option):
            _refused(case, f"{option.name}: {value}", {option.name: json.dumps(value)}, option.name)
            tried += 1
    if not tried:
        raise Skipped("it has no option with a range")


def _beyond(option: Option) -> list[float]:
    whole = any(kind.kind == OptionType.INTEGER for kind in option.types)
    values = [option.least - 1] if option.HasField("least") else []
    values += [option.most + 1] if option.HasField("most") else []
    return [int(value) if whole else value for value in values]


@check("configure.option_garbage", "A value that is no JSON is refused, not failed on.", of="plugin", needs_wire=True)
def option_garbage(case: Case) -> None:
    if not case.descriptor.options:
        raise Skipped("it has no options")
    name = case.descriptor.options[0].name
    _refused(case, f"{name}: {{not json", {name: "{not json"}, "")


def _refused(case: Case, given: str, options: dict[str, str], word: str) -> None:
    """A failure in the answer that names the option; the instance is not there."""
    right = "a failure that says what would be right" + (f", naming {word}" if word else "")
    try:
        case.configured("refused", {**case.options, **options})
    except Failed as failed:
        if word not in failed.message:
            raise Wrong(given, failed, right) from None
        if not failed.message.strip():
            raise Wrong(given, "a failure without words", right) from None
    except Refused as refused:
        raise Wrong(given, refused, right) from None
    else:
        case.released("refused")
        raise Wrong(given, "an instance", right)


@check("configure.plugin_unknown", "A plugin that it does not offer is refused.", of="server")
def plugin_unknown(server: Server) -> None:
    for kind, name in ((1, "no_such_plugin"), (3, "no_such_plugin"), (4, ""), (0, server.plugins[0].name)):
        _nothing(server, ConfigureRequest(instance="strange", kind=kind, name=name))  # type: ignore[arg-type]


@check("configure.kind_unknown", "A kind that this version does not know is refused.", of="server")
def kind_unknown(server: Server) -> None:
    _nothing(server, ConfigureRequest(instance="strange", kind=99, name=server.plugins[0].name))  # type: ignore[arg-type]


def _nothing(server: Server, request: ConfigureRequest) -> None:
    given = f"kind {request.kind}, name {request.name!r}"
    try:
        answer = server.wire.ask(server.wire.plugin.Configure, request)
    except Refused as refused:
        one_of(given, refused.code, ("NOT_FOUND", "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION"))
    else:
        if not answer.HasField("failure"):
            raise Wrong(given, "an instance", "a failure, NOT_FOUND or INVALID_ARGUMENT")
    server.wire.still_well("a plugin that it does not offer")


@check("configure.release", "An instance that was released is gone; one that is not there is released, too.",
       of="plugin", needs_wire=True)  # fmt: skip
def release(case: Case) -> None:
    case.main  # noqa: B018 - skipped where it cannot be configured
    case.released("was never there")
    case.configured("gone")
    case.released("gone")
    _missing(case, "gone", "an instance that was released")
    case.released("gone")


@check("configure.instance_missing", "A call of an instance that is not there is NOT_FOUND.",
       of="plugin", needs_wire=True)  # fmt: skip
def instance_missing(case: Case) -> None:
    if case.kind == "model":
        raise Skipped("a served model needs no instance")
    _missing(case, "was never there", "an instance that was never there")


def _missing(case: Case, instance: str, what: str) -> None:
    from .load import carried

    subject = _far(case)
    wire = subject.at.wire
    if case.kind == "model":
        return
    request = subject.first(case.named(instance), carried(case, 3), problem=(case.problems or [""])[0])
    refused = wire.refusal(subject.method(), request)
    equal(what, refused.code if refused else "an answer", "NOT_FOUND")


def _far(case: Case) -> Far:
    assert isinstance(case.subject, Far), "a check over the wire"
    return case.subject
