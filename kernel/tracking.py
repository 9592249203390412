"""The record in MLflow, kept by a process of its own: MLflow being slow, locked or gone never touches the run.

Rank 0 starts `python -m deepgen.kernel.tracking RUN_FOLDER` and holds one end of a pipe. The tracker follows the run's
event stream. It knows that the run is over when the pipe closes: with a Finished event as the last one the run ended
by itself, or its launcher has said how rank 0 ended; without one all of it was killed. What MLflow did not take is
offered again later, also after a resumed attempt.

`python -m deepgen.kernel.tracking RUN_FOLDER STATUS REASON` records a run that has ended, as far as it is not recorded,
and closes it as FINISHED, FAILED or KILLED: for whoever knows better than the events, or when MLflow was gone too long.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from deepgen.v1.event_pb2 import Event

from .events import FILE, EventReader
from .mlflow_store import answers, read_state, store_address, without_password, write_state
from .record import SCENE_FILE, plain_settings

if TYPE_CHECKING:
    from .mlflow_run import MlflowRun

LOG = Path("log") / "tracking.log"
LOCK = Path("log") / "tracking.lock"
BUSY = 75
"""The exit code for "try again later": EX_TEMPFAIL of sysexits.h."""
ABSENT = 69
"""The exit code for "nobody listens at MLflow's address": EX_UNAVAILABLE of sysexits.h."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "OMP_NUM_THREADS": "1"}
"""Of the environment. MLflow's own patience is minutes for each call; ours is to try again later."""
NICE = 10
SECONDS_BETWEEN_RECORDS = 5.0
SECONDS_BETWEEN_ATTEMPTS = 30.0
SECONDS_BEFORE_IMPORT = 60.0
"""MLflow's import takes seconds of CPU: it waits until the ranks have started, which their first progress shows."""
SECONDS_FOR_THE_LAUNCHER = 2.0
"""To notice that rank 0 has ended without a word, and to say so in the events."""
SECONDS_AT_THE_END = 3600
"""The longest that sending a large model folder may take after the run has ended."""


@dataclass(frozen=True)
class TrackingSettings:
    """Where and under which names a run is recorded."""

    tracking: bool = True
    """Record the run in MLflow."""
    mlflow_tracking_uri: str | None = None
    """The MLflow store: a server's address, or sqlite:///FILE; by default MLFLOW_TRACKING_URI of the environment, or
    mlflow.db in the working folder."""
    experiment_name: str | None = None
    """The MLflow experiment; by default the name of the scene."""
    run_name: str | None = None
    """The name of the MLflow run; by default MLFLOW_RUN_NAME of the environment, or the name of the run folder."""
    log_model: bool = True
    """Put the model folder of a run that ended well into MLflow too."""
    logging_dir: str | None = None
    """Also write the curves as TensorBoard's event files, into this folder; a relative path starts at the working
    folder."""


class Tracker:
    """Rank 0's hold on the tracker process."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._process = process

    def finish(self, timeout: float = 60.0) -> str:
        """Waits, after the Finished event was sent, until the run is recorded; says where, or why not. Never raises."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"still being recorded; see {self._folder / LOG}"
        state = read_state(self._folder)
        if code != 0:
            problem = state.get("problem") or f"the tracker ended with code {code}"
            return f"not recorded: {problem}; see {self._folder / LOG}"
        return f"run '{state['run_name']}' in {state['place']}; `deepgen ui` shows it"


def start(folder: Path, settings: TrackingSettings) -> Tracker | None:
    """Starts the tracker of a run; None when tracking is off or the process cannot be started. Never raises."""
    if not settings.tracking:
        return None
    # A supervisor that ends what a run leaves behind spares it.
    environment = {**PATIENCE, **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DEEPGEN_TRACKER": "1"}
    try:
        (folder / LOG).parent.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "deepgen.kernel.tracking", str(folder.absolute())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the ranks
            )
        assert process.stdin is not None
        # Not as arguments: an address may hold a password, and `ps` shows arguments to everybody.
        process.stdin.write(json.dumps(asdict(settings)).encode() + b"\n")
        process.stdin.flush()
    except OSError as error:
        print(f"tracking: cannot be started: {error}", file=sys.stderr)
        return None
    return Tracker(folder, process)


def main() -> int:
    """The tracker process: 0 when all was recorded, BUSY when another tracker is at it, ABSENT when MLflow is gone."""
    if len(sys.argv) > 2:
        return _record_late(Path(sys.argv[1]), (sys.argv[2], " ".join(sys.argv[3:])))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when rank 0 has ended, and records how
    parent = os.getppid()
    _be_humble()
    folder = Path(sys.argv[1])
    with open(0, "rb", buffering=0, closefd=False) as pipe:  # unbuffered: what follows is waited for with select
        settings = TrackingSettings(**json.loads(pipe.readline()))
    with _alone(folder):
        return _Follower(folder, settings, parent).follow()


def _record_late(folder: Path, ended: tuple[str, str]) -> int:
    """Records a run that has ended."""
    try:
        with _alone(folder, wait=False):
            record = folder / SCENE_FILE
            given = plain_settings(record.read_text(encoding="utf-8")) if record.exists() else {}
            known = {each.name for each in fields(TrackingSettings)}
            settings = TrackingSettings(**{name: value for name, value in given.items() if name in known})
            if settings.tracking and not answers(store_address(settings.mlflow_tracking_uri)):
                return ABSENT
            return _Follower(folder, settings, os.getppid()).record_all(ended) if settings.tracking else 0
    except BlockingIOError:
        return BUSY


@contextlib.contextmanager
def _alone(folder: Path, wait: bool = True) -> Iterator[None]:
    """Held by the one process that records a run folder: the tracker of the attempt before may still be at it."""
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


class _Follower:
    """Follows the events of a run and hands them to MLflow whenever it takes them."""

    def __init__(self, folder: Path, settings: TrackingSettings, parent: int) -> None:
        self._folder, self._settings, self._parent = folder, settings, parent
        self._reader = EventReader(folder / FILE)
        self._events: list[Event] = []
        """Those that MLflow has not taken yet."""
        self._last: Event | None = None
        self._run: MlflowRun | None = None
        self._tried = False

    def follow(self) -> int:
        """Until rank 0 is gone; gives the exit code."""
        self._read()
        due = time.monotonic() + SECONDS_BEFORE_IMPORT
        while not self._is_over(1.0):
            at_work = self._read()
            if time.monotonic() < due and (self._tried or not at_work):
                continue
            wait = SECONDS_BETWEEN_RECORDS if self._try(self._record) else SECONDS_BETWEEN_ATTEMPTS
            due = time.monotonic() + wait
        _share_of_session(0)  # now it is waited for
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS_AT_THE_END)
        self._read()
        if self._may_be_spoken_for():
            time.sleep(SECONDS_FOR_THE_LAUNCHER)
            self._read()
        return 0 if self._try(self._record) and self._try(self._end) else 1

    def _may_be_spoken_for(self) -> bool:
        """Rank 0 has ended without a word, which its launcher says in its place."""
        last = self._events[-1] if self._events else self._last
        return last is not None and not last.HasField("finished")

    def record_all(self, ended: tuple[str, str]) -> int:
        """Records what is there and closes the run with this status and reason; gives the exit code."""
        self._read()
        if not self._events:  # it was over before it began
            return 0
        return 0 if self._try(lambda: self._record(runs=False)) and self._try(lambda: self._end(ended)) else 1

    def _read(self) -> bool:
        """Takes in new events; whether they show that the ranks have started."""
        before = len(self._events)
        self._events.extend(self._reader.read())
        new = self._events[before:]
        return any(e.HasField("scored") or (e.HasField("progress") and e.progress.stage != "features") for e in new)

    def _record(self, runs: bool = True) -> None:
        from .mlflow_run import MlflowRun

        self._tried = True
        if self._run is None:
            begin = self._events[0].time.ToMilliseconds() if self._events else None
            self._run = MlflowRun.open(self._folder, self._settings, begin, runs=runs)
        if self._events:
            self._run.record(self._events)
            self._last = self._events[-1]
            self._events.clear()

    def _end(self, ended: tuple[str, str] | None = None) -> None:
        assert self._run is not None
        self._run.end(self._last, ended)

    def _is_over(self, seconds: float) -> bool:
        """Waits so long for rank 0 to let go of the pipe, or to be gone: a child of its may have copied the pipe."""
        readable, _, _ = select.select([0], [], [], seconds)
        return (bool(readable) and not os.read(0, 1)) or os.getppid() != self._parent

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except Exception as error:  # whatever MLflow or its store throws: the record suffers, never the run
            print(f"{time.strftime('%F %T')} warning: MLflow did not take the record", flush=True)
            traceback.print_exc()
            address = store_address(self._settings.mlflow_tracking_uri)
            write_state(self._folder, problem=f"{without_password(address)}: {_root(error)}")
            return False
        return True


def _be_humble() -> None:
    """Leaves the CPU to the ranks. Linux gives a new session a fair share of its own unless told otherwise."""
    os.nice(NICE)
    _share_of_session(NICE)


def _share_of_session(nice: int) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


def _root(error: BaseException) -> str:
    """What stands at the bottom of an error, such as `Connection refused` under a client's many layers."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} …"


if __name__ == "__main__":
    sys.exit(main())
