"""Writes docs/reference from the plugins and settings themselves: `python docs/generate.py`."""

from __future__ import annotations

import inspect
from pathlib import Path

from deepgen.kernel import registry
from deepgen.kernel.contracts import Metric, Model, Outputter, Problem
from deepgen.kernel.descriptors import describe, summary
from deepgen.kernel.options import options_of
from deepgen.kernel.schemas import option_message
from deepgen.kernel.settings import KERNEL
from deepgen.v1.plugin_pb2 import Field, Option

REFERENCE = Path(__file__).parent / "reference"
USE = {
    "processor": "train_model_header: {name}:COLUMN:OUTPUT",
    "model": "task: {name}",
    "metric": "eval_metrics: {name}",
    "outputter": "output_type: {name}",
    "trainer": "trainer: {name}",
}


def pages() -> dict[str, str]:
    """The text of each page by its path in docs/reference."""
    index = [
        "# Reference",
        "",
        "Made by `python docs/generate.py`. The settings of every run: [settings](settings.md).",
        "",
    ]
    made = {"settings.md": _settings()}
    for kind in registry.KINDS:
        index += [f"## {kind.capitalize()}s", "", "| name | what it does |", "|---|---|"]
        for name in sorted(registry.names(kind)):
            found = registry.find(kind, name)
            if found.source != "in the tree":
                continue
            made[f"{kind}s/{name}.md"] = _page(found)
            index.append(f"| [{name}]({kind}s/{name}.md) | {_cell(summary(found.plugin))} |")
        index.append("")
    return {"index.md": "\n".join(index), **made}


def _page(found: registry.Found) -> str:
    plugin, message = found.plugin, describe(found)
    lines = [f"# {plugin.name}", "", f"{plugin.kind.capitalize()}. {inspect.getdoc(plugin)}", ""]
    lines += ["```yaml", USE[plugin.kind].format(name=plugin.name), "```", ""]
    facts: list[tuple[str, str]] = []
    if issubclass(plugin, Model):
        facts += [("needs", ", ".join(plugin.needs)), ("needs to train", ", ".join(plugin.needs_to_train))]
    if issubclass(plugin, Metric):
        facts += [("scores", _problems(plugin.fits)), ("keys", ", ".join(field.name for field in message.outputs))]
        facts += [("better", "higher" if plugin.higher_is_better else "lower")]
    if issubclass(plugin, Outputter):
        facts += [("writes", _problems(plugin.fits)), ("file name ends in", plugin.extension)]
        facts += [("columns", ", ".join(["those of result_header", *(field.name for field in message.outputs)]))]
    lines += [f"- {name}: {value}" for name, value in facts]
    lines += [""] if facts else []
    if plugin.kind == "processor":
        lines += ["| field | type | values a row | padding |", "|---|---|---|---|"]
        lines += [f"| {field.name} | {field.dtype} | {_shape(field)} | {field.padding} |" for field in message.outputs]
        lines += [""]
    lines += _options(list(message.options))
    return "\n".join(lines)


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        "Each is a key of a scene file and a flag of the command line. Those of a trainer, a model and",
    ]
    lines += ["the other plugins are on the plugins' own pages.", ""]
    for owner in KERNEL:
        lines += [f"## {summary(owner).rstrip('.')}", ""]
        lines += _options([option_message(option) for option in options_of(owner, "kernel")])
    return "\n".join(lines)


def _options(options: list[Option]) -> list[str]:
    if not options:
        return ["No options.", ""]
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for option in options:
        names = ", ".join(f"`{name}`" for name in (option.name, *option.aliases))
        default = f"`{option.default}`" if option.default else ""
        lines.append(f"| {names} | {_cell(option.type)} | {_cell(default)} | {_cell(option.help)} |")
    return [*lines, ""]


def _problems(fits: frozenset[Problem]) -> str:
    return ", ".join(sorted(fits))


def _shape(field: Field) -> str:
    return {Field.SCALAR: "one", Field.FIXED: "the same number in each"}.get(field.shape, "any number")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write() -> None:
    """Writes every page and removes those that no plugin stands behind any more."""
    wanted = pages()
    for path in REFERENCE.rglob("*.md"):
        if str(path.relative_to(REFERENCE)) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (REFERENCE / name).parent.mkdir(parents=True, exist_ok=True)
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
