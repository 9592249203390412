"""The voice of a run on the terminal: one live line where it is a terminal, plain lines now and then where it is not.

It reads the event stream and nothing else. Permanent lines stay above the live one: the header, what was prepared,
the scores of each evaluation, what was saved, notices, and the summary.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from deepgen.v1.event_pb2 import Event

from .stages import Stage, clock, count, number

_LABEL = 10
_LEAST_BAR, _MOST_BAR = 6, 30
_BOLD, _DIM, _RED, _GREEN, _YELLOW = 1, 2, 31, 32, 33
_ENDS = {
    Event.Finished.SUCCEEDED: ("done", _GREEN),
    Event.Finished.FAILED: ("failed", _RED),
    Event.Finished.INTERRUPTED: ("stopped", _YELLOW),
}


class Progress:
    """Shows events on a file: `events.subscribe(Progress(file))`.

    `file` is where rank 0 may speak. A file that goes away (a closed terminal) silences it and never ends the run.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = _Lasting(file)
        self._live = file.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._bar: Any = None
        self._stages: dict[str, Stage] = {}
        self._scores: list[Event.Scored] = []
        self._results: list[tuple[str, str]] = []
        self._output_dir = ""

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        match event.WhichOneof("body"):
            case "started":
                self._started(event.started)
            case "data_set":
                self._data_set(event.data_set)
            case "stage":
                self._stage(event.stage)
            case "progress":
                self._progress(event.progress)
            case "scored":
                self._scored(event.scored)
            case "saved" if event.saved.what == Event.Saved.MODEL:
                self._results.append(("model", event.saved.path))
            case "saved":
                self._line("saved", self._paint(self._short(event.saved.path), _DIM))
            case "notice":
                self._notice(event.notice)
            case "predicted":
                self._results.append(("result", f"{event.predicted.path}  ({event.predicted.rows:,} rows)"))
            case "finished":
                self._finished(event.finished)

    def recorded(self, where: str) -> None:
        """A last line under the summary: where the record of the run is, as the tracker says it."""
        self._line("  MLflow", where)

    def _started(self, event: Event.Started) -> None:
        self._output_dir = event.output_dir
        about = [event.parameters.get("task", ""), f"{event.ranks} rank{'s' * (event.ranks != 1)}"]
        about += [event.device, event.dtype, f"ZeRO {event.zero_stage}" if event.zero_stage else ""]
        about += [f"goes on from step {event.resumed_step:,}" if event.resumed_step else ""]
        self._line("DeepGen", self._paint(event.scene, _BOLD) + "  " + ", ".join(filter(None, about)))
        self._line("  output", self._paint(event.output_dir, _DIM))

    def _data_set(self, data: Event.DataSet) -> None:
        bad = f"  {data.bad_rows:,} bad rows left out" if data.bad_rows else ""
        self._line(f"  {data.split}", f"{data.rows:>9,} rows  {self._paint(self._short(data.path), _DIM)}{bad}")

    def _stage(self, event: Event.Stage) -> None:
        stage = self._stages[event.name] = Stage(event.name, event.total, event.unit, event.detail)
        if self._live:
            self._draw(stage)
        elif event.name != "eval":
            self._line(event.name, "  ".join(filter(None, [event.detail, stage.amount(event.total)])) or "...")

    def _progress(self, event: Event.Progress) -> None:
        stage = self._stages.setdefault(event.stage, Stage(event.stage, event.total))
        stage.take(event)
        if self._live:
            self._draw(stage)
        elif event.stage != "eval" and stage.done != stage.total and stage.is_due():
            share = f"{stage.share:.0%}" if stage.total else stage.amount(stage.done)
            self._line(stage.name, "  ".join([share, *(fact.strip() for _, fact in stage.facts())]))
        if stage.total and stage.done >= stage.total and not stage.ended:
            stage.ended = True
            if stage.name in ("features", "train", "predict"):
                speed = f"{count(stage.last.rows_per_second)} rows/s" if stage.seconds > 0.1 else ""
                time_taken = f"{stage.amount(stage.done)} in {clock(stage.seconds)}"
                self._line(stage.name, "  ".join(filter(None, [self._short(stage.detail), time_taken, speed])))

    def _scored(self, event: Event.Scored) -> None:
        self._scores.append(event)
        place = f"step {event.step:,}" if event.step else event.split
        place += f"  epoch {event.epoch:.2f}" if event.epoch else ""
        scores = [f"{_plain(name)} {number(event.scores[name])}" for name in _ordered(event.scores)]
        room = self._width() - _LABEL - len(place) - 2
        for index, line in enumerate(_fill([*scores, "best"] if event.best else scores, room)):
            if event.best and line.endswith("best"):
                line = line.removesuffix("best") + self._paint("best", _GREEN)
            self._line("eval" if index == 0 else "", f"{place if index == 0 else '':<{len(place)}}  {line}")

    def _notice(self, event: Event.Notice) -> None:
        warning = event.level == Event.Notice.WARNING
        label = self._paint("warning", _YELLOW) if warning else "note"
        text = " ".join(event.text.split())
        lines = textwrap.wrap(text, self._width() - _LABEL, break_long_words=False, break_on_hyphens=False)
        for index, line in enumerate(lines if self._live else [text]):
            self._line(label if index == 0 else "", line)

    def _finished(self, event: Event.Finished) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        word, colour = _ENDS.get(event.state, ("ended", _RED))
        message = " ".join(event.message.split())
        self._line("")
        self._line(self._paint(word, colour), f"in {clock(event.seconds)}" + (f"  {message}" if message else ""))
        for index, line in enumerate(self._table()):
            self._line("  scores" if index == 0 else "", line)
        for name, text in self._results:
            self._line(f"  {name}", text)

    def _table(self) -> Iterator[str]:
        """The scores of the last evaluation, one a line, and beside them the best ones where those came earlier."""
        if not self._scores:
            return
        last = self._scores[-1]
        best = next((event for event in reversed(self._scores) if event.best), last)
        names = _ordered({*best.scores, *last.scores})
        width = max((len(_plain(name)) for name in names), default=0)
        columns = [last] if best.step == last.step else [best, last]
        heads = [f"{'best' if event is best else 'last'}, step {event.step:,}" for event in columns]
        if len(columns) > 1:
            yield " " * width + "".join(f"  {head:>16}" for head in heads)
        for name in names:
            cells = [number(event.scores[name]) if name in event.scores else "" for event in columns]
            yield f"{_plain(name):<{width}}" + "".join(f"  {cell:>{16 if len(columns) > 1 else 0}}" for cell in cells)

    def _draw(self, stage: Stage) -> None:
        """Redraws the live line; facts that do not fit into the width are left out, the least needed first."""
        width = self._width() - 1
        head = f"{stage.name:<{_LABEL}}"
        tail = f"{stage.share:>4.0%}" if stage.total else stage.detail or "..."
        facts = stage.facts()
        least = len(head) + len(tail) + (_LEAST_BAR + 1 if stage.total else 0)
        while facts and least + sum(len(fact) + 2 for _, fact in facts) > width:
            facts.remove(min(facts))
        tail += "".join(f"  {fact}" for _, fact in facts)
        bar = max(_LEAST_BAR, min(_MOST_BAR, width - len(head) - len(tail) - 1))
        if self._bar is None:
            self._bar = _new_bar(self._file)
        self._bar.ncols = width
        self._bar.total = stage.total or None
        self._bar.n = stage.done
        self._bar.bar_format = (
            head + (f"{{bar:{bar}}} " if stage.total else "") + tail.replace("{", "(").replace("}", ")")
        )
        self._bar.refresh()

    def _line(self, label: str, text: str = "") -> None:
        """Writes a permanent line, above the live one."""
        if self._bar is not None:
            self._bar.clear()
        gap = " " * (_LABEL - len(label)) if not label.startswith("\x1b") else " " * (_LABEL - len(label) + 9)
        self._file.write(f"{label}{gap}{text}".rstrip() + "\n")
        self._file.flush()
        if self._bar is not None:
            self._bar.refresh()

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour:02}m{text}\x1b[0m" if self._coloured and text else text

    def _short(self, path: str) -> str:
        """A path of the run folder, as seen from it."""
        return (
            os.path.relpath(path, self._output_dir) if self._output_dir and path.startswith(self._output_dir) else path
        )

    def _width(self) -> int:
        return max(40, self._file.columns()) if self._live else 100


class _Lasting:
    """A text file that swallows what is written once the terminal behind it is gone."""

    def __init__(self, file: TextIO) -> None:
        self._file: TextIO | None = file
        self.encoding = file.encoding or "utf-8"

    def write(self, text: str) -> None:
        try:
            if self._file is not None:
                self._file.write(text.encode(self.encoding, "replace").decode(self.encoding))
        except (OSError, ValueError):
            self._file = None

    def flush(self) -> None:
        try:
            if self._file is not None:
                self._file.flush()
        except (OSError, ValueError):
            self._file = None

    def columns(self) -> int:
        try:
            return os.get_terminal_size(self._file.fileno()).columns if self._file is not None else 80
        except (OSError, ValueError):
            return 80


def _new_bar(file: _Lasting) -> Any:
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread of its own: the events come often enough
    return tqdm(file=file, leave=False, bar_format="")


def _fill(pieces: Sequence[str], width: int) -> list[str]:
    """Pieces, two blanks apart, in as few lines of that width as they need."""
    lines = [""]
    for piece in pieces:
        longer = f"{lines[-1]}  {piece}" if lines[-1] else piece
        if len(longer) > width and lines[-1]:
            lines.append(piece)
        else:
            lines[-1] = longer
    return lines


def _ordered(names: Iterable[str]) -> list[str]:
    """By name, the loss last (the wire keeps no order)."""
    return sorted(names, key=lambda name: (_plain(name) == "loss", name))


def _plain(name: str) -> str:
    return name.removeprefix("eval_")
