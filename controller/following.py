"""What is known of a run from its folder: how far it is, when it last moved, and its run in MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from deepgen.v1.event_pb2 import Event
from deepgen.v1.job_pb2 import JobProgress, MlflowRun

from ..kernel.events import FILE, EventReader
from ..kernel.mlflow_store import STATE, read_state

COMMAND = "deepgen ui --mlflow_tracking_uri {store}"
"""How the page of a store that is a file is opened."""


class Following:
    """The run folder of one attempt, looked at again and again; reads only what is new."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._reader = EventReader(folder / FILE)
        self._file: int | None = None
        """The inode that is read."""
        self._size = 0
        self._moved = clock()
        self._seen: tuple[int, int] | None = None
        self.progress = JobProgress()
        self.mlflow = MlflowRun()

    def look(self) -> bool:
        """Takes in what is new; whether `progress` or `mlflow` has changed."""
        self._notice_a_new_file()
        events = list(self._reader.read())
        for event in events:
            self._take(event)
        if events:
            self._moved = self._clock()
        return self._look_at_record() or bool(events)

    def _notice_a_new_file(self) -> None:
        """A run that starts over empties its folder: then what was read is of the former one."""
        try:
            status = (self._folder / FILE).stat()
        except OSError:
            return
        if self._file is not None and (status.st_ino != self._file or status.st_size < self._size):
            self._reader, self.progress, self._moved = EventReader(self._folder / FILE), JobProgress(), self._clock()
        self._file, self._size = status.st_ino, status.st_size

    @property
    def silent_for(self) -> float:
        """Seconds since the run last said something, or since it was first looked at."""
        return self._clock() - self._moved

    def _take(self, event: Event) -> None:
        progress = self.progress
        if event.HasField("started"):
            progress.checkpoint_step = max(progress.checkpoint_step, event.started.resumed_step)
        elif event.HasField("stage"):
            progress.stage, progress.done, progress.total = event.stage.name, 0, event.stage.total
            progress.rows_per_second = progress.seconds_left = 0
        elif event.HasField("progress"):
            told = event.progress
            progress.stage, progress.done, progress.total = told.stage, told.done, told.total
            progress.rows_per_second, progress.seconds_left = told.rows_per_second, told.seconds_left
            if told.stage == "train":
                progress.step, progress.epoch = told.step, told.epoch
            progress.values.update(told.values)
        elif event.HasField("scored"):
            progress.values.update(event.scored.scores)
        elif event.HasField("saved") and event.saved.what == Event.Saved.CHECKPOINT:
            progress.checkpoint_step = event.saved.step
        else:
            return
        progress.time.CopyFrom(event.time)

    def _look_at_record(self) -> bool:
        try:
            status = (self._folder / STATE).stat()
        except OSError:
            return False
        seen = (status.st_mtime_ns, status.st_ino)
        if seen == self._seen:
            return False
        self._seen = seen
        state = read_state(self._folder)
        if not state.get("run_id"):
            return False
        store, run, experiment = state["address"], state["run_id"], state["experiment_id"]
        link = COMMAND.format(store=store)
        if store.startswith(("http://", "https://")):
            link = f"{store.rstrip('/')}/#/experiments/{experiment}/runs/{run}"
        found = MlflowRun(run_id=run, experiment_id=experiment, link=link)
        if found == self.mlflow:
            return False
        self.mlflow = found
        return True
