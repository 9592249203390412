"""A run: scene → rows → features → batches → engine → metrics → result file → record; the same on every rank."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

from . import attempt
from .errors import DeepgenError, Interrupted
from .options import Range
from .scene import SPLITS, Scene, Split
from .stand_ins.loading import tell

if TYPE_CHECKING:
    from .engine import Engine
    from .folder import RunFolder
    from .terminal import Terminal


@dataclass(frozen=True)
class RunSettings:
    """What a run does and where it writes."""

    output_dir: str | None = None
    """The run folder; by default runs/ and the name of the scene. A relative path starts at the working folder."""
    overwrite_output_dir: bool = False
    """Empty the run folder first, instead of going on from what is in it."""
    do_train: Literal["auto"] | bool = "auto"
    """Train; auto: when train_dir is set."""
    do_eval: Literal["auto"] | bool = "auto"
    """Evaluate; auto: when eval_dir is set."""
    do_predict: Literal["auto"] | bool = "auto"
    """Predict; auto: when predict_dir is set."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 42
    """Of new weights, dropout and the order of the rows."""
    num_ranks: Annotated[int | None, Range(1)] = None
    """Processes that share the work; by default one for each GPU, or one. A launcher's own number comes first."""


HEARD = b"\nstopping; Ctrl-C again ends it at once\n"


class Stop:
    """Ctrl-C and SIGTERM: the first asks for a clean stop with a checkpoint, the second ends the process at once."""

    def __init__(self, person: int | None = None) -> None:
        """`person`: the file descriptor where a person is told that the first Ctrl-C was heard."""
        self.asked = False
        self._person = person
        self.leaving: list[Callable[[], None]] = []
        """What is done before the process ends at once, in the middle of anything."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __bool__(self) -> bool:
        return self.asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            if (folder := attempt.folder()) is not None:
                attempt.code(folder, int(os.environ.get("RANK", "0")), Interrupted.exit_code)
            for leave in self.leaving:
                leave()
            os._exit(Interrupted.exit_code)
        self.asked = True
        if number == signal.SIGINT and self._person is not None:
            with suppress(OSError):  # straight to the descriptor: the signal may have come in the middle of a print
                os.write(self._person, HEARD)


def splits(scene: Scene) -> tuple[Split, ...]:
    """The splits that the run reads, in order."""
    settings = scene.read(RunSettings)
    asked = {"train": settings.do_train, "eval": settings.do_eval, "predict": settings.do_predict}
    return tuple(
        split
        for split in SPLITS
        if (scene.values[f"{split}_dir"].value is not None if asked[split] == "auto" else asked[split])
    )


def run(scene: Scene, terminal: Terminal) -> None:
    """Runs this rank's part of a scene to its end.

    Raises:
        UserError: a mistake in the scene or the data.
        RunError: the run failed; Interrupted: it was stopped and can go on.
    """
    from . import tracking
    from .engine import Engine, EngineSettings
    from .events import EventStream, Silent
    from .phases import Phases
    from .progress import Progress
    from .record import SCENE_FILE, write_resolved
    from .tensorboard import Curves

    begin = time.monotonic()
    stop = Stop(terminal.stream.fileno() if terminal.rank == 0 else None)
    engine = Engine.start(scene.read(EngineSettings))
    folder = _folder(scene, engine)
    terminal.move_log(folder.path / "log" / f"rank_{engine.rank}.log")
    if (supervised := attempt.folder()) is not None:
        attempt.log(supervised, engine.rank, terminal.log)
    if engine.rank != 0:
        Phases(scene, engine, folder, Silent(), stop).run()
        return
    events = EventStream(folder.path)
    progress = Progress(terminal.stream)
    events.subscribe(progress)
    tell(lambda text: events.notice(text, warning=True))
    write_resolved(scene, folder.path / SCENE_FILE)
    record = scene.read(tracking.TrackingSettings)
    tracker = tracking.start(folder.path, record)
    state: Literal["succeeded", "failed", "interrupted"] = "succeeded"
    message = ""
    try:
        if record.logging_dir is not None:
            events.subscribe(Curves(record.logging_dir))
        Phases(scene, engine, folder, events, stop).run()
    except Interrupted as error:
        state, message = "interrupted", str(error)
        raise
    except BaseException as error:
        state, message = "failed", first_error(error)
        if not isinstance(error, DeepgenError) and attempt.stopped_at_once(attempt.folder()):
            state, message = "interrupted", attempt.STOPPED
        raise
    finally:
        events.finished(state, message, seconds=time.monotonic() - begin)
        if tracker is not None:
            # the recorder goes on by itself; after a failure nobody should wait long for it
            progress.recorded(tracker.finish(60 if state == "succeeded" else 10))


def _folder(scene: Scene, engine: Engine) -> RunFolder:
    """The run folder, chosen by rank 0 for all."""
    from .folder import choose

    settings = scene.read(RunSettings)
    chosen: RunFolder | DeepgenError | None = None
    if engine.rank == 0:
        try:
            chosen = choose(scene, settings.output_dir, settings.overwrite_output_dir)
        except DeepgenError as error:  # the other ranks wait for it
            chosen = error
    chosen = engine.broadcast(chosen)
    if isinstance(chosen, DeepgenError):
        raise chosen
    assert chosen is not None
    return chosen


def first_error(error: BaseException) -> str:
    """The cause in one line: what the first rank to fail wrote down, else this rank's own error.

    A rank that dies takes the others' connections with it, so their errors say little.
    """
    if not isinstance(error, DeepgenError) and (folder := attempt.folder()) is not None:
        time.sleep(1.0)
        if (said := attempt.first_error(folder)) is not None:
            return said
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, DeepgenError) else f"{type(error).__name__}: {text}"
