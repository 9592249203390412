"""A finished model in a process of its own: while it computes, whoever asks can go on with other things.

A forward pass is hundreds of small steps of torch, and between any two of them another thread of its process may take
Python's lock for milliseconds.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from . import siblings
from .contracts import Predictions
from .errors import RunError
from .finished import Finished, source_of
from .rows import Reject
from .scene import Scene
from .settings import load

ATTEMPTS = 3
"""So often rows may end the process before they have an error; what else the machine does may have been the cause."""
ENDED_BY = "the process of the model was ended by "


class PredictorProcess(Finished):
    """What `Predictor` is, but for rows that are given to this process; threads may share it.

    Where its process is ended, another one is started; rows that end three have an error. So have all rows
    when the files of the model are others by then: their answers would go under the name and the classes of this one.
    """

    def __init__(self, reference: str, tokens: Sequence[str]) -> None:
        """Starts the process and waits until the model is there.

        Args:
            reference: of the scene, as `settings.load` takes it.
            tokens: `--name value` over it.

        Raises:
            SceneError, PluginError: the scene cannot predict.
            RunError: the process was ended.
        """
        self._what = (reference, list(tokens))
        self._lock = threading.Lock()
        self._lost = ""
        """Why the process is gone, if it is."""
        self._process = siblings.start(work)
        try:
            scene = load(reference, tokens)  # meanwhile
            self._files = _files(scene)
            problem, class_names = self._begun()
            super().__init__(scene, source_of(scene), problem, class_names)
        except BaseException:
            self.close()
            raise

    def predictions(self, columns: Sequence[pa.Array]) -> tuple[list[Reject], Generator[Predictions, None, None]]:
        """As `Predictor.predictions`.

        Raises:
            RunError: the process was ended ATTEMPTS times, or when it had answered some; the next rows start another
                one.
        """
        rejects: list[Reject] = []
        return rejects, self._passes(list(columns), rejects)

    def close(self) -> None:
        """Ends the process."""
        siblings.end(self._process)

    def _passes(self, columns: list[pa.Array], rejects: list[Reject]) -> Generator[Predictions, None, None]:
        with self._lock:
            found, answers, more = self._first(columns)
            try:
                while True:
                    rejects += found
                    if answers is not None:
                        yield answers
                    if not more:
                        return
                    more = False  # where an error ends it
                    found, answers, more = self._received()
            finally:
                while more:  # the rest of what nobody waits for any more
                    more = False
                    *_, more = self._received()

    def _first(self, columns: list[pa.Array]) -> Any:
        """The first that is said to some rows, by a process that lives to say it."""
        for _ in range(ATTEMPTS):
            try:
                return self._asked(columns)
            except _Ended:
                continue
        by = self._lost.removeprefix(ENDED_BY)
        raise RunError(f"the process of the model was ended {ATTEMPTS} times with the same rows, by {by}")

    def _asked(self, columns: list[pa.Array]) -> Any:
        """The same, by a process that is started where there is none."""
        if self._lost:
            if _files(self.scene) != self._files:
                folder = self.scene.values["model"].value
                self.gone = f"{self._lost}, and the files in {folder} are others now; start the server again"
                raise RunError(self.gone)
            print(f"deepgen: {self._lost}; it is started again", file=sys.stderr, flush=True)
            siblings.end(self._process)
            self._process = siblings.start(work)
            self._begun()
            self._lost = self.gone = ""
        self._send(columns)
        return self._received()

    def _begun(self) -> Any:
        """What the model says when it is there."""
        self._send(self._what)
        return self._received()

    def _send(self, item: Any) -> None:
        try:
            siblings.send(item, self._process.stdin)
        except siblings.ENDED:
            raise self._ended() from None

    def _received(self) -> Any:
        try:
            answer = siblings.receive(self._process.stdout)
        except siblings.ENDED:
            raise self._ended() from None
        if isinstance(answer, siblings.Failed):
            answer.throw()
        return answer

    def _ended(self) -> _Ended:
        self._lost = f"{ENDED_BY}{siblings.cause(self._process)}"
        return _Ended(self._lost)


def _files(scene: Scene) -> dict[str, tuple[int, int]]:
    """The size and the time of each file of the model; none where its folder is gone."""
    try:
        found = [(file.name, file.stat()) for file in Path(scene.values["model"].value).iterdir() if file.is_file()]
    except OSError:
        return {}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found}


class _Ended(RunError):
    """The process is gone."""


def work() -> None:
    """The process: loads the model that it is told first, and answers rows from then on."""
    from .realtime import Predictor

    requests, answers = siblings.opened()
    try:
        reference, tokens = siblings.receive(requests)
        try:
            predictor = Predictor(load(reference, tokens))
        except BaseException as error:
            siblings.send(siblings.Failed.of(error), answers)
            return
        siblings.send((predictor.problem, predictor.class_names), answers)
        gc.freeze()  # what is there by now stays, and need not be looked through again and again
        while True:
            columns = siblings.receive(requests)
            try:
                rejects, passes = predictor.predictions(columns)
                told = 0
                for made in passes:
                    siblings.send((rejects[told:], made, True), answers)
                    told = len(rejects)
                siblings.send((rejects[told:], None, False), answers)
            except BaseException as error:  # one of a tokenizer in Rust may be no Exception
                siblings.send(siblings.Failed.of(error), answers)
    except siblings.ENDED:
        return
