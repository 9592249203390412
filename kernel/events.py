"""What a run says while it runs: one stream of typed events, one JSON line each in the run folder's `events.jsonl`.

The terminal, the log, MLflow and the controller are readers of this stream. Rank 0 writes it; the other ranks hold a
`Silent` one with the same methods.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from google.protobuf import json_format

from deepgen.v1.event_pb2 import Event

FILE = "events.jsonl"
SECONDS_BETWEEN_PROGRESS = 1.0

_STATES = {
    "succeeded": Event.Finished.SUCCEEDED,
    "failed": Event.Finished.FAILED,
    "interrupted": Event.Finished.INTERRUPTED,
}
_SAVED = {"checkpoint": Event.Saved.CHECKPOINT, "model": Event.Saved.MODEL}


class EventStream:
    """Numbers events, writes them to a run folder and hands them to the subscribers of this process.

    Numbers go on where an earlier attempt in the same folder stopped. Safe to use from several threads.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / FILE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO | None = self._path.open("ab+")
        last = _last_event(self._file)
        self._sequence = last.sequence if last is not None else 0
        self.was_finished = last is not None and last.HasField("finished")
        """When it was opened: what wrote to it before has said how it ended."""
        self._subscribers: list[Callable[[Event], None]] = []
        self._lock = threading.RLock()
        self._quiet_until: dict[str, float] = {}

    def subscribe(self, reader: Callable[[Event], None]) -> None:
        """Calls `reader` with every event from now on, in order, in the thread that sends it."""
        self._subscribers.append(reader)

    def started(
        self,
        *,
        scene: str,
        ranks: int,
        device: str,
        dtype: str,
        zero_stage: int,
        output_dir: str | Path,
        resumed_step: int = 0,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """An attempt begins; `parameters` is every setting with its value."""
        body = Event.Started(
            scene=scene,
            ranks=ranks,
            device=device,
            dtype=dtype,
            zero_stage=zero_stage,
            resumed_step=resumed_step,
            output_dir=_text(output_dir),
            parameters={name: _text(value) for name, value in (parameters or {}).items()},
        )
        self._send(Event(started=body))

    def data_set(self, split: str, *, path: str | Path, rows: int, digest: str = "", bad_rows: int = 0) -> None:
        """The rows of a split are known; `digest` is that of their features."""
        body = Event.DataSet(split=split, path=_text(path), rows=rows, digest=digest, bad_rows=bad_rows)
        self._send(Event(data_set=body))

    def stage(self, name: str, *, total: int = 0, unit: str = "", detail: object = "") -> None:
        """A part of the run begins: features, model, train, eval, predict or save. `total` is 0 when unknown."""
        self._quiet_until.pop(name, None)
        self._send(Event(stage=Event.Stage(name=name, total=total, unit=unit, detail=_text(detail))))

    def progress(
        self,
        stage: str,
        done: int,
        total: int = 0,
        *,
        rows_per_second: float = 0.0,
        tokens_per_second: float = 0.0,
        seconds_left: float = 0.0,
        step: int = 0,
        epoch: float = 0.0,
        values: Mapping[str, float] | None = None,
    ) -> None:
        """How far a stage is; may be called as often as one likes.

        Without `values` it is passed on about once a second, and at the end of the stage; with `values` (loss,
        learning_rate and the like, which belong in the record) always.
        """
        now = time.monotonic()
        if not values and (total == 0 or done < total) and now < self._quiet_until.get(stage, 0.0):
            return
        self._quiet_until[stage] = now + SECONDS_BETWEEN_PROGRESS
        body = Event.Progress(
            stage=stage,
            done=done,
            total=total,
            rows_per_second=rows_per_second,
            tokens_per_second=tokens_per_second,
            seconds_left=seconds_left,
            step=step,
            epoch=epoch,
            values={name: float(value) for name, value in (values or {}).items()},
        )
        self._send(Event(progress=body))

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """A function of (rows done, rows in all) that sends the progress of a stage with its speed and time left."""
        begin = time.monotonic()

        def count(done: int, total: int) -> None:
            seconds = time.monotonic() - begin
            speed = done / seconds if seconds > 0 else 0.0
            left = (total - done) / speed if speed > 0 and total > done else 0.0
            self.progress(stage, done, total, rows_per_second=speed, seconds_left=left)

        return count

    def scored(
        self,
        split: str,
        scores: Mapping[str, float],
        *,
        step: int = 0,
        epoch: float = 0.0,
        best: bool = False,
        seconds: float = 0.0,
    ) -> None:
        """Scores of an evaluation, by names such as `eval_auc`; `best` so far by the first metric."""
        values = {name: float(value) for name, value in scores.items()}
        body = Event.Scored(split=split, step=step, epoch=epoch, scores=values, best=best, seconds=seconds)
        self._send(Event(scored=body))

    def saved(self, what: Literal["checkpoint", "model"], path: str | Path, *, step: int = 0) -> None:
        """A checkpoint or the model folder is complete on disk."""
        self._send(Event(saved=Event.Saved(what=_SAVED[what], path=_text(path), step=step)))

    def notice(self, text: str, *, warning: bool = False) -> None:
        """Something a person should know, and never the end of a run."""
        level = Event.Notice.WARNING if warning else Event.Notice.INFO
        self._send(Event(notice=Event.Notice(level=level, text=_text(text))))

    def predicted(self, path: str | Path, *, rows: int, rows_per_second: float = 0.0) -> None:
        """The result file is published."""
        self._send(Event(predicted=Event.Predicted(path=_text(path), rows=rows, rows_per_second=rows_per_second)))

    def finished(
        self, state: Literal["succeeded", "failed", "interrupted"], message: str = "", *, seconds: float = 0.0
    ) -> None:
        """The attempt ends; nothing may be sent after it."""
        body = Event.Finished(state=_STATES[state], message=_text(message), seconds=seconds)
        self._send(Event(finished=body))

    def close(self) -> None:
        """Closes the file; what is sent later reaches the subscribers only."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _send(self, event: Event) -> None:
        with self._lock:
            self._sequence += 1
            event.sequence = self._sequence
            event.time.GetCurrentTime()
            if self._file is not None:
                line = json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True)
                self._file.write(line.encode() + b"\n")
                self._file.flush()
            for reader in self._subscribers:
                reader(event)


class Silent(EventStream):
    """The stream of the ranks that do not speak: the same methods, and nothing happens."""

    def __init__(self) -> None:
        self._file = None
        self._subscribers = []
        self._quiet_until = {}
        self._lock = threading.RLock()

    def _send(self, event: Event) -> None:
        pass


class EventReader:
    """Reads a growing `events.jsonl`; each `read` gives what is new since the last one."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._offset = 0

    def read(self) -> Iterator[Event]:
        """The events of all complete new lines; none while the file does not exist. A spoilt line is passed over."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                if (event := _parse(line)) is not None:
                    yield event


def read_events(path: str | Path, follow: bool = False, poll: float = 0.2) -> Iterator[Event]:
    """The events of a file; with `follow` it waits for more, looking every `poll` seconds, until the reader stops."""
    reader = EventReader(path)
    yield from reader.read()
    while follow:
        time.sleep(poll)
        yield from reader.read()


def finish(folder: Path, message: str, seconds: float) -> None:
    """Says that an attempt has failed, in the place of rank 0, unless that has said how it ended."""
    stream = EventStream(folder)
    if not stream.was_finished:
        stream.finished("failed", message, seconds=seconds)
    stream.close()


def _parse(line: bytes) -> Event | None:
    try:
        return json_format.Parse(line, Event(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError):
        return None


def _last_event(file: BinaryIO) -> Event | None:
    """The last whole event; a line that was cut short by a kill is taken off."""
    file.seek(0)
    last = deque(file, maxlen=100)
    if last and not last[-1].endswith(b"\n"):
        file.truncate(file.seek(0, os.SEEK_END) - len(last.pop()))
    return next((event for line in reversed(last) if (event := _parse(line)) is not None), None)


def _text(value: object) -> str:
    """Text that protobuf takes: paths of odd bytes come as lone surrogates, which UTF-8 does not have."""
    return str(value).encode("utf-8", "replace").decode()
