"""`deepgen plugins [KIND [NAME]] [--plugin FILE]`: the plugins there are, or the options of one."""

from __future__ import annotations

from collections.abc import Sequence

from deepgen.v1.plugin_pb2 import Option, PluginDescriptor

from ...kernel import registry
from ...kernel.descriptors import describe
from ...kernel.errors import PluginError, UserError, did_you_mean


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen plugins --help` prints."""
    return (
        "usage: deepgen plugins [KIND [NAME]] [--plugin FILE]\n\n"
        f"KIND is one of {', '.join(registry.KINDS)}; with a NAME, its options and fields are shown."
    )


def main(arguments: Sequence[str]) -> int:
    """Prints the listing or one plugin."""
    words = list(arguments)
    while "--plugin" in words:
        position = words.index("--plugin")
        if position + 1 == len(words):
            raise UserError("--plugin has no value; it takes a Python file")
        registry.load_file(words[position + 1])
        del words[position : position + 2]
    kind = words[0].removesuffix("s") if words else ""
    if kind and kind not in registry.KINDS:
        near = did_you_mean(words[0], registry.KINDS)
        raise UserError(f"no kind of plugin is called '{words[0]}'{near or '; there are ' + ', '.join(registry.KINDS)}")
    if len(words) > 2:
        raise UserError(f"'{words[2]}' is one word too many; deepgen plugins takes a kind and a name")
    if len(words) == 2:
        print(one(describe(registry.find(kind, words[1]))))
        return 0
    for listed in [kind] if kind else registry.KINDS:
        print(f"{listed}s")
        names = sorted(registry.names(listed))
        wide = max(map(len, names), default=0)
        for name in names:
            print(f"  {name:<{wide}}  {_line(listed, name)}".rstrip())
    return 0


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


def option_lines(option: Option) -> list[str]:
    """An option as the help shows it."""
    default = f", default {option.default}" if option.default else ""
    names = "".join(f", --{alias}" for alias in option.aliases)
    return [f"  --{option.name}{names} ({option.type}{default})", f"      {' '.join(option.help.split())}"]


def _line(kind: str, name: str) -> str:
    try:
        found = registry.find(kind, name)
    except PluginError as error:
        return f"BROKEN: {error}"
    plugin = describe(found)
    return plugin.summary if found.source == "in the tree" else f"{plugin.summary} ({plugin.source})"
