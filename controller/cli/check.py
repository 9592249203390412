"""`deepgen check SCENE`: each setting and where it came from, and what the run would do; refuses what cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToJson

from ...kernel.check import Findings, examine
from ...kernel.contracts import Field
from ...kernel.descriptors import describe_scene
from ...kernel.errors import UserError
from ...kernel.no_model import tokenizes
from ...kernel.old_scene import is_argument_file
from ...kernel.record import short_text, text_of
from ...kernel.rows import Reject, RowSettings, refuse
from ...kernel.scene import Scene
from ...kernel.settings import load
from ...kernel.sources import shown_path
from .differences import differences

if TYPE_CHECKING:
    from ...kernel.processing import Processing

LONGEST = 70
"""Characters of a value that are shown."""
COUNTED = 64 << 20
"""Files of more bytes than this are not counted through."""


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen check --help` prints."""
    return (
        "usage: deepgen check SCENE [--rows N] [--json] [--yaml] [--name value …]\n\n"
        "Prints every setting with its value and where that was given, and what the run would do.\n"
        "--rows N also reads the first N rows of each file through the processors that need no tokenizer.\n"
        "--json prints the resolved scene as the message deepgen.v1.Scene instead.\n"
        "--yaml prints what was set as a YAML scene instead, unchecked. Of an argument file of the original,\n"
        "that form is shown in any case, and what differs from the original.\n"
        "A scene that cannot run is refused with one line and exit code 2. Nothing is trained or downloaded."
    )


def main(arguments: Sequence[str]) -> int:
    """Prints the settings, then what the run would do."""
    reference, tokens = split(arguments)
    rows = _take_rows(tokens)
    as_json, as_yaml = "--json" in tokens, "--yaml" in tokens
    scene = load(reference, [token for token in tokens if token not in ("--json", "--yaml")])
    if as_yaml:
        print(yaml_form(scene), end="")
        return 0
    if as_json:
        examine(scene)
        print(MessageToJson(describe_scene(scene), preserving_proto_field_name=True))
        return 0
    print(table(scene))
    found = examine(scene)
    print("\n" + "\n".join(_outlook(scene, found)))
    for note in found.notes:
        print(f"note: {note}")
    for name, part in found.parts.items() if rows else ():
        seen, rejects = _first_rows(scene, part, rows)
        print(f"rows: the first {seen} of {name} are read, {len(rejects)} are bad")
        for reject in rejects[:5]:
            print(f"  {reject}")
    if is_argument_file(scene.path):
        _tell_of_the_original(scene, found)
    return 0


def yaml_form(scene: Scene) -> str:
    """What was set, as a YAML scene that lies where this one lies."""
    folder = scene.path.resolve().parent if scene.path else Path.cwd()
    old = scene.path.name if scene.path and is_argument_file(scene.path) else ""
    title = f"made from the argument file {old}" if old else "as it was set"
    return f"# Scene {scene.name}, {title}.\n{short_text(scene, folder)}"


def _tell_of_the_original(scene: Scene, found: Findings) -> None:
    """The YAML form of an argument file, and where the original did something else with it."""
    assert scene.path is not None
    place = shown_path(scene.path.with_name(f"{scene.path.name}.yaml"))
    print(f"\nas YAML (`deepgen check {shown_path(scene.path)} --yaml > {place}` saves it):\n")
    print(yaml_form(scene))
    print("what differs from the original:")
    for line in differences(scene, found):
        print(f"- {line}")


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The scene, where one is named first, and the `--name value` tokens after it."""
    if arguments and not arguments[0].startswith("--"):
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def table(scene: Scene) -> str:
    """Setting, value and origin; those that were set come first."""
    rows = [(value.option.name, _cut(text_of(value)), str(value.origin)) for value in scene.values.values()]
    rows.sort(key=lambda row: row[2] == "default")
    rows.insert(0, ("setting", "value", "from"))
    wide = max(len(name) for name, _, _ in rows)
    wider = max(len(shown) for _, shown, _ in rows)
    return "\n".join(f"{name:<{wide}}  {shown:<{wider}}  {origin}" for name, shown, origin in rows)


def _outlook(scene: Scene, found: Findings) -> list[str]:
    """What the run would do, a line a thing."""
    lines = []
    for name, part in found.parts.items():
        source = part.source
        what = "hub:" + ":".join(source.hub) if source.hub else ", ".join(shown_path(file) for file in source.files[:3])
        more = f" and {len(source.files) - 3} more files" if len(source.files) > 3 else ""
        lines.append(f"{name}: {what}{more}{_count(found, name)}")
        lines += [f"  {_field(field)}" for field in part.fields.values()]
    labels = f": labels are {_kind(found.labels)}" if found.labels else ""
    names = next((part.class_names["labels"] for part in found.parts.values() if part.class_names.get("labels")), ())
    classes = f", {len(names)} classes: {_cut(', '.join(names))}" if names else ""
    verb = "learns" if scene.model.elsewhere is None else "answers with"
    lines.append(f"task: {scene.settings.task} {verb} {found.problem}{labels}{classes}")
    if "eval" in found.splits:
        keys = [key or ", ".join(metric.keys()) for metric, key in scene.metrics]
        lines.append(f"scores: {', '.join(f'eval_{key}' for text in ['loss', *keys] for key in text.split(', '))}")
    if found.outputter:
        lines.append(f"result: {found.outputter}, columns {', '.join(found.columns)}")
    return lines


def _first_rows(scene: Scene, part: Processing, count: int) -> tuple[int, list[Reject]]:
    """Reads the first rows of a split through the processors that need no tokenizer; gives the bad ones too.

    Raises:
        DataError: a bad row, where `bad_rows` is `fail`.
    """
    from ...kernel.readers import chunks, parse

    part.processors = [processor for processor in part.processors if not tokenizes(processor)]
    seen, rejects = 0, list[Reject]()
    for chunk in chunks(part.source):
        made = part.make(chunk, parse(part.source, chunk))
        rejects += [reject for reject in made.rejects if reject.row < count]
        seen = min(count, chunk.first_row + chunk.rows)
        if seen == count:
            break
    refuse(rejects, scene.read(RowSettings).bad_rows)
    return seen, rejects


def _count(found: Findings, name: str) -> str:
    from ...kernel.readers import chunks

    source = next(part.source for split, part in found.parts.items() if split == name)
    if source.hub or sum(file.stat().st_size for file in source.files) > COUNTED:
        return ""
    return f", {sum(chunk.rows for chunk in chunks(source))} rows"


def _field(field: Field) -> str:
    shape = {"scalar": "one a row", "fixed": "the same number in each row", "ragged": "any number a row"}[field.shape]
    return f"{field.name:<16} {field.dtype:<8} {shape}" + (f", with {field.mask}" if field.mask else "")


def _kind(labels: Field) -> str:
    if labels.shape == "ragged":
        return "token ids"
    numbers = {"int64": "whole numbers", "float32": "numbers", "string": "text"}[labels.dtype]
    return f"lists of {numbers}" if labels.shape == "fixed" else numbers


def _take_rows(tokens: list[str]) -> int:
    """Takes `--rows N` out of the tokens."""
    for position, token in enumerate(tokens):
        name, equals, value = token.partition("=")
        if name == "--rows":
            value = value if equals else "".join(tokens[position + 1 : position + 2])
            if not value.isdigit():
                raise UserError(f"--rows = '{value}' is not a whole number; give how many rows to read")
            del tokens[position : position + (1 if equals else 2)]
            return int(value)
    return 0


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
