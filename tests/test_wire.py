"""The protocol keeps its word: what tests/wire.txt has stays, so that programs of other versions are understood.

`python tests/test_wire.py` adds what is new. A line is never changed; one that is not wanted any more is written
`reserved` in its .proto, and then its line goes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

ROOT = Path(__file__).resolve().parents[1]
WIRE = ROOT / "tests" / "wire.txt"


def spoken() -> list[str]:
    """Each field, value and call with what may not change of it."""
    lines: list[str] = []
    for file in sorted((ROOT / "proto" / "deepgen" / "v1").glob("*.proto")):
        made = FileDescriptorProto()
        importlib.import_module(f"deepgen.v1.{file.stem}_pb2").DESCRIPTOR.CopyToProto(made)
        lines += [line for one in made.message_type for line in _message(one)]
        lines += [line for one in made.enum_type for line in _values("", one)]
        for service in made.service:
            for call in service.method:
                sides = [
                    f"{'stream ' * streams}{kind.removeprefix('.deepgen.v1.')}"
                    for kind, streams in (
                        (call.input_type, call.client_streaming),
                        (call.output_type, call.server_streaming),
                    )
                ]
                lines.append(f"{service.name}.{call.name}({sides[0]}) {sides[1]}")
    return lines


def _message(message: DescriptorProto, within: str = "") -> Iterator[str]:
    name = within + message.name
    for field in message.field:
        label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
        kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        of = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        shown = f"{name}.{field.name} = {field.number} {label} {kind.removeprefix('.deepgen.v1.')} {of}"
        yield shown.replace(" optional ", " ").strip()
    for enum in message.enum_type:
        yield from _values(f"{name}.", enum)
    for inner in message.nested_type:
        yield from _message(inner, f"{name}.")


def _values(within: str, kind: EnumDescriptorProto) -> Iterator[str]:
    assert kind.value[0].number == 0, f"{kind.name}: the first value is for what is not said"
    for value in kind.value:
        yield f"{within}{kind.name}.{value.name} = {value.number}"


def test_what_was_spoken_is_spoken_still_and_what_is_new_is_written_down() -> None:
    written = WIRE.read_text(encoding="utf-8").splitlines()[1:]
    assert sorted(set(written) - set(spoken())) == [], "programs of other versions would not be understood"
    assert sorted(set(spoken()) - set(written)) == [], "new: run `python tests/test_wire.py`"


def _write() -> None:
    before: list[Any] = WIRE.read_text(encoding="utf-8").splitlines()[1:] if WIRE.exists() else []
    lines = ["# Every field, value and call of proto/; only `python tests/test_wire.py` adds to it."]
    lines += sorted({*before, *spoken()})
    WIRE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
