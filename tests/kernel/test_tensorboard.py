"""TensorBoard's event files: read back by the format's own description, in the order in which things were said."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from deepgen.kernel.errors import SceneError
from deepgen.kernel.events import EventStream
from deepgen.kernel.tensorboard import Curves, crc32c, record

FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES: dict[str, list[tuple[str, int, Any, Any]]] = {
    "Value": [("tag", 1, FIELD.TYPE_STRING, ""), ("simple_value", 2, FIELD.TYPE_FLOAT, "")],
    "Summary": [("value", 1, FIELD.TYPE_MESSAGE, ".Value")],
    "TfEvent": [
        ("wall_time", 1, FIELD.TYPE_DOUBLE, ""),
        ("step", 2, FIELD.TYPE_INT64, ""),
        ("file_version", 3, FIELD.TYPE_STRING, ""),
        ("summary", 5, FIELD.TYPE_MESSAGE, ".Summary"),
    ],
}
"""The fields of tensorflow/core/util/event.proto that are read here."""


def message() -> Any:
    """The class of an event, made from its description."""
    file = descriptor_pb2.FileDescriptorProto(name="tensorflow.proto", syntax="proto3")
    for name, fields in MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            label = FIELD.LABEL_REPEATED if field == "value" else FIELD.LABEL_OPTIONAL
            described.field.add(name=field, number=number, type=kind, type_name=of or None, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("TfEvent"))


def read(file: Path) -> list[Any]:
    """The events of a file, with every length and checksum looked at."""
    content, found = file.read_bytes(), []
    made = message()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data, rest = content[12 : 12 + length], content[12 + length :]
        assert record(data) == content[: 16 + length]
        assert len(data) == length
        found.append(made.FromString(data))
        content = rest[4:]
    return found


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def test_values_and_scores_are_points(tmp_path: Path) -> None:
    events = EventStream(tmp_path / "run")
    events.subscribe(Curves(str(tmp_path / "curves" / "mine")))
    events.started(scene="a", ranks=1, device="cpu", dtype="float32", zero_stage=1, output_dir=tmp_path)
    events.progress("train", 1, 300, step=1)
    events.progress("train", 300, 300, step=300, values={"loss": 0.5, "learning_rate": 1e300})
    events.scored("eval", {"eval_auc": 0.75, "eval_auc_R&B": math.nan}, step=300)
    events.finished("succeeded", "", seconds=1)
    (file,) = (tmp_path / "curves" / "mine").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    first, *points = read(file)
    assert first.file_version == "brain.Event:2"
    found = [(point.step, value.tag, value.simple_value) for point in points for value in point.summary.value]
    assert {(step, tag) for step, tag, _ in found} == {
        *((300, "train/loss"), (300, "train/learning_rate"), (300, "eval/auc"), (300, "eval/auc_R&B"))
    }
    values = {tag: value for _, tag, value in found}
    assert (values["train/loss"], values["eval/auc"]) == (0.5, 0.75)
    assert math.isinf(values["train/learning_rate"])
    assert math.isnan(values["eval/auc_R&B"])
    assert all(point.wall_time >= first.wall_time > 1.7e9 for point in points)


def test_nothing_said_makes_no_file(tmp_path: Path) -> None:
    events = EventStream(tmp_path / "run")
    events.subscribe(Curves(str(tmp_path / "curves")))
    events.progress("features", 1, 2)
    assert list((tmp_path / "curves").iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match=r"logging_dir = '.*file/below': Not a directory; give a folder to write to"):
        Curves(str(tmp_path / "file" / "below"))


def test_a_full_disk_ends_the_curves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = EventStream(tmp_path / "run")
    curves = Curves(str(tmp_path / "curves"))
    events.subscribe(curves)
    (tmp_path / "curves").rmdir()
    for step in (1, 2):
        events.progress("train", step, 2, step=step, values={"loss": 1.0})
    events.finished("succeeded", "", seconds=1)
    assert capsys.readouterr().err.count("no more points are written") == 1
