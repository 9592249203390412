"""Tells MLflow how jobs ended, however long it takes: an entry of the outbox stays until MLflow has it.

A run has a tracker of its own, which closes its MLflow run within a second or so. What it could not do, because it was
killed or MLflow was gone, is done by a process that is started here: MLflow is never loaded into the controller.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..kernel.mlflow_store import read_state
from ..kernel.tracking import ABSENT, BUSY, PATIENCE
from .jobs import ENDED
from .reading import OutboxItem
from .store import Store

MLFLOW = "mlflow"
"""The kind of these entries in the outbox; the key is the job's ID."""
SECONDS_FOR_THE_TRACKER = 1.0
"""After which it is not waited for any more, unless it holds its lock."""
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_PROBES = 2.0
"""While nobody listens at MLflow's address."""
LONGEST_PAUSE = 60.0
AT_ONCE = 2
"""Processes: each takes the CPU seconds that the import of MLflow costs."""
_LOG = logging.getLogger(__name__)


class Delivery:
    """The outbox entries for MLflow; `turn` is called again and again by one thread."""

    def __init__(self, store: Store, state: Path, address: str, clock: Callable[[], float] = time.time) -> None:
        """`address` of the MLflow store; empty: a file in the folder `state`."""
        self._store, self._clock = store, clock
        self.address = address or f"sqlite:///{state / 'mlflow.db'}"
        self._log = state / "delivery.log"
        self._at_work: dict[str, tuple[OutboxItem, subprocess.Popen[bytes]]] = {}
        self._absent_until = 0.0
        """Nobody listened; until then no other entry is tried either."""

    def turn(self, now: float) -> float | None:
        """Looks at what is due; gives the seconds until it should be called again, None when there is nothing."""
        for key, (item, process) in list(self._at_work.items()):
            if (code := process.poll()) is not None:
                del self._at_work[key]
                self._settle(item, code, now)
        with self._store.reader() as reader:
            due = reader.outbox(now, 100)
            following = reader.next_due()
        for item in due:
            if item.kind == MLFLOW and item.key not in self._at_work:
                self._look(item, now)
        if self._at_work or due:
            return SECONDS_BETWEEN_LOOKS
        return None if following is None else max(SECONDS_BETWEEN_LOOKS, following - now)

    def close(self) -> None:
        """Ends the processes; their entries stay in the outbox."""
        for _, process in self._at_work.values():
            process.kill()
            process.wait()

    def _look(self, item: OutboxItem, now: float) -> None:
        told = json.loads(item.payload)
        folder = Path(told["folder"])
        with self._store.reader() as reader:
            job = reader.job(item.key)
        due = max(item.due + (0.0 if item.tries else SECONDS_FOR_THE_TRACKER), self._absent_until)
        # A job that was retried has a run that is at work again, and ends anew.
        again = job is not None and job.state not in ENDED
        if again or read_state(folder).get("status") == told["status"] or not (folder / "log").is_dir():
            self._store.write(lambda transaction: transaction.delivered(item)).result()
        elif now >= due and len(self._at_work) < AT_ONCE:
            command = [sys.executable, "-P", "-m", "deepgen.kernel.tracking", str(folder)]
            with self._log.open("ab") as log, contextlib.suppress(OSError):
                process = subprocess.Popen(
                    [*command, told["status"], told["reason"]],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={
                        **PATIENCE,
                        **os.environ,
                        "MLFLOW_TRACKING_URI": self.address,
                        "MLFLOW_DISABLE_TELEMETRY": "true",
                    },
                    start_new_session=True,
                )
                self._at_work[item.key] = item, process

    def _settle(self, item: OutboxItem, code: int, now: float) -> None:
        if code == 0:
            self._store.write(lambda transaction: transaction.delivered(item)).result()
            return
        pauses = {BUSY: SECONDS_BETWEEN_LOOKS, ABSENT: SECONDS_BETWEEN_PROBES}
        pause = pauses.get(code, min(2.0**item.tries, LONGEST_PAUSE))
        if code == ABSENT:
            self._absent_until = now + pause
        elif code != BUSY:
            _LOG.warning("MLflow did not take the end of %s; again in %.0f s (see %s)", item.key, pause, self._log)
        problems = {BUSY: "", ABSENT: "nobody listens at MLflow's address"}
        problem = problems.get(code, f"the recorder ended with code {code}")
        self._store.write(lambda transaction: transaction.postponed(item, now + pause, problem)).result()
