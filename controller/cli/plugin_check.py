"""`deepgen plugin check WHAT`: whether a plugin does what the protocol says, in this process and over its socket."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...kernel.endpoints import Endpoint, is_endpoint, parse
from ...kernel.errors import PluginError, UserError, did_you_mean
from .arguments import JSON, Given, Option, help_of, read
from .display import width

if TYPE_CHECKING:
    from deepgen.v1.plugin_pb2 import PluginDescriptor

    from ..conformance.near import Near
    from ..conformance.report import Report

OVER = ("both", "process", "wire")
OPTIONS = (
    Option("only", "PREFIX", "only checks whose ids begin so, as handshake or payload.parts"),
    Option("options", "NAME=VALUE", "sets an option of the plugin; may be given again", many=True),
    Option("over", "|".join(OVER), "for a file: as a class in this process, served over its socket, or both"),
    Option("quick", "", "smaller batches and fewer calls where nothing may leak; nothing above 64 MiB"),
    Option("list", "", "lists the checks"),
    JSON,
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen plugin check --help` prints."""
    text = (
        "WHAT is a Python FILE with plugins, KIND:NAME of a plugin that is there, or an endpoint: exec:COMMAND,\n"
        "unix:/PATH, grpcs://HOST:PORT. Several files or names are served by one process. An endpoint may be written\n"
        "in any language; it is spoken to by the protocol alone. Exit code 0: all passed; 1: some failed."
    )
    return help_of("plugin check WHAT… [--only PREFIX] [--options NAME=VALUE] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Runs the suite and gives its exit code."""
    from ..conformance.report import Report
    from ..conformance.suite import known

    given = read("plugin check", arguments, OPTIONS)
    only = given.one("only") or ""
    if not known(only):
        raise UserError(f"--only {only}: no check begins so; `deepgen plugin check --list` names them")
    if given.has("list"):
        return _list(only)
    words = given.only(1, None, "a file, KIND:NAME or an endpoint")
    over = given.one("over") or "both"
    if over not in OVER:
        raise UserError(f"--over {over} is not one of {', '.join(OVER)}{did_you_mean(over, OVER)}")
    begin, report = time.monotonic(), Report(width(), given.as_json)
    if any(map(is_endpoint, words)):
        if len(words) > 1:
            raise UserError("give one endpoint, or files and names of plugins, but not both")
        _wire(_reached(words[0]), given, only, report)
    else:
        subjects = _offered(words)
        if over != "wire":
            _process(subjects, given, only, report)
        if over != "process":
            served = (sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve", *words)
            _wire(Endpoint(f"exec:{shlex.join(served)}", "exec", command=served), given, only, report)
    if not report.outcomes:
        what = f"no check whose id begins with '{only}'" if only else "no check"
        where = "" if over == "both" else f" with --over {over}"
        raise UserError(f"{what} is for {' '.join(words)}{where}: nothing was checked")
    report.close(time.monotonic() - begin)
    return report.code


def _reached(text: str) -> Endpoint:
    """An endpoint that can be asked; of a program, what there is to start.

    Raises:
        PluginError: it is none, nobody answers there, or it wants another token.
    """
    from ..conformance.server import reach

    try:
        endpoint = parse(text)
        reach(endpoint)
    except PluginError as error:
        raise PluginError(str(error).removeprefix("--plugin ")) from error
    return endpoint


def _offered(words: Sequence[str]) -> list[Near]:
    """The plugins that are meant, those of files and those named, as classes in this process."""
    from ..conformance.near import registered
    from ..plugin_server.offers import offered

    found, notes = offered(words)
    for note in notes:
        print(note, file=sys.stderr)
    return [registered(kind, name) for kind, name in found]


def _process(subjects: Sequence[Near], given: Given, only: str, report: Report) -> None:
    from ..conformance.case import Case, spelled
    from ..conformance.suite import of_case

    _declared(_texts(given), [subject.descriptor for subject in subjects])
    for subject in subjects:
        case = Case(subject, spelled(subject.descriptor, _texts(given)), given.has("quick"))
        for outcome in of_case(case, only, "in this process"):
            report.add(outcome)


def _wire(endpoint: Endpoint, given: Given, only: str, report: Report) -> None:
    from ..conformance.server import Server
    from ..conformance.suite import of_server, started

    server = Server(endpoint, _texts(given), given.has("quick"))
    try:
        outcome = started(server)
        if outcome.result == "passed":
            _declared(_texts(given), server.plugins)
        if outcome.result != "passed" or outcome.check.name.startswith(only):
            report.add(outcome)
        if outcome.result == "passed":
            for outcome in of_server(server, only):
                report.add(outcome)
    finally:
        server.close()


def _texts(given: Given) -> dict[str, str]:
    texts: dict[str, str] = {}
    for pair in given.values.get("options", []):
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--options {pair}: write NAME=VALUE, as in --options most_words=5")
        texts[name.removeprefix("--")] = text
    return texts


def _declared(texts: dict[str, str], plugins: Sequence[PluginDescriptor]) -> None:
    """Refuses an option that none of the plugins has."""
    names = {name for plugin in plugins for option in plugin.options for name in (option.name, *option.aliases)}
    for name in texts:
        if name not in names:
            near = did_you_mean(name, names) or f"; there are {', '.join(sorted(names)) or 'none'}"
            raise UserError(f"--options {name}: none of these plugins has it{near}")


def _list(only: str) -> int:
    from ..conformance.suite import ORDERED

    for check in ORDERED:
        if check.name.startswith(only):
            print(f"{check.name:<32}  {check.says}")
    return 0
