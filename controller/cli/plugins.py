"""`deepgen plugins [KIND [NAME]]`: the plugins there are here or on a controller, or the options of one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deepgen.v1.plugin_pb2 import Option as Described
from deepgen.v1.plugin_pb2 import PluginDescriptor

from ...kernel import registry
from ...kernel.descriptors import describe
from ...kernel.errors import PluginError, UserError, did_you_mean
from ...kernel.stand_ins.loading import load
from .arguments import JSON, REMOTE, Given, Option, help_of, read
from .display import print_json

OPTIONS = (
    Option(
        "plugin",
        "FILE",
        "a Python file with plugins of your own, or an endpoint such as exec:./my_plugins; may be given again",
        many=True,
        takes="a Python file or an endpoint",
    ),
    Option("server", "", "those of the controller"),
    JSON,
    *REMOTE,
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen plugins --help` prints."""
    text = f"KIND is one of {', '.join(registry.KINDS)}; with a NAME, its options and fields are shown."
    return help_of("plugins [KIND [NAME]] [--plugin FILE] [--server] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints the listing or one plugin."""
    given = read("plugins", arguments, OPTIONS)
    for file in given.values.get("plugin", []):
        load(file)
        for key in registry.plugins_of(file):
            describe(registry.find(*key))
    words = given.only(0, 2, "a kind and a name")
    kind = words[0].removesuffix("s") if words else ""
    if kind and kind not in registry.KINDS:
        near = did_you_mean(words[0], registry.KINDS)
        raise UserError(f"no kind of plugin is called '{words[0]}'{near or '; there are ' + ', '.join(registry.KINDS)}")
    if given.has("server"):
        return _of_the_server(given, kind)
    if len(words) == 2:
        _print_one(given, describe(registry.find(kind, words[1])))
        return 0
    for listed in [kind] if kind else registry.KINDS:
        names = sorted(registry.names(listed))
        if given.as_json:
            for name in names:
                if (plugin := _described(listed, name)) is not None:
                    print_json(plugin)
        else:
            _print_kind(listed, {name: _line(listed, name) for name in names})
    return 0


def _of_the_server(given: Given, kind: str) -> int:
    from deepgen.v1.controller_pb2 import GetPluginRequest, ListPluginsRequest

    with given.client() as client:
        if len(given.words) == 2:
            name = f"plugins/{kind}/{given.words[1]}"
            _print_one(given, client.call(client.catalog.GetPlugin, GetPluginRequest(name=name)))
            return 0
        plugins = client.call(client.catalog.ListPlugins, ListPluginsRequest(kind=kind)).plugins
    if given.as_json:
        for plugin in plugins:
            print_json(plugin)
        return 0
    for listed in [kind] if kind else registry.KINDS:
        number = PluginDescriptor.Kind.Value(listed.upper())
        _print_kind(listed, {plugin.name: plugin.summary for plugin in plugins if plugin.kind == number})
    return 0


def _print_one(given: Given, plugin: PluginDescriptor) -> None:
    if given.as_json:
        print_json(plugin, lines=False)
    else:
        print(one(plugin))


def _print_kind(kind: str, lines: dict[str, str]) -> None:
    print(f"{kind}s")
    wide = max(map(len, lines), default=0)
    for name, line in lines.items():
        print(f"  {name:<{wide}}  {line}".rstrip())


def _described(kind: str, name: str) -> PluginDescriptor | None:
    try:
        return describe(registry.find(kind, name))
    except PluginError as error:
        print(f"{kind} {name} is broken: {error}", file=sys.stderr)
        return None


def one(plugin: PluginDescriptor) -> str:
    """A plugin with its options."""
    kind = PluginDescriptor.Kind.Name(plugin.kind).lower()
    lines = [f"{kind} {plugin.name} {plugin.version} ({plugin.source})", f"  {plugin.summary}"]
    for title, fields in (("reads", plugin.inputs), ("gives", plugin.outputs)):
        if fields:
            lines += ["", f"{title}: " + ", ".join(f"{field.name} ({field.dtype})" for field in fields)]
    if plugin.options:
        lines += ["", "options:"]
    for option in plugin.options:
        lines += option_lines(option)
    return "\n".join(lines)


def option_lines(option: Described) -> list[str]:
    """An option as the help shows it."""
    default = f", default {option.default}" if option.default else ""
    names = "".join(f", --{alias}" for alias in option.aliases)
    return [f"  --{option.name}{names} ({option.type}{default})", f"      {' '.join(option.help.split())}"]


def _line(kind: str, name: str) -> str:
    try:
        found = registry.find(kind, name)
        plugin = describe(found)
    except PluginError as error:
        return f"BROKEN: {error}"
    return plugin.summary if found.source == "in the tree" else f"{plugin.summary} ({plugin.source})"
