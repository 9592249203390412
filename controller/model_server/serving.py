"""One process that serves a model: from the first look at the folder to the answer to the last row."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ...kernel.connections import end_all
from ...kernel.predictor_process import PredictorProcess
from .model import ServedModel, reference_of
from .server import Server, Settings

SWITCH_SECONDS = 0.0005
"""How long a thread may hold up the others: that which hands the model its batches must not wait long."""


def serve(
    folder: str, tokens: Sequence[str], name: str, settings: Settings, ready: Callable[[ServedModel, str, str], None]
) -> int:
    """Serves the model of a folder until SIGTERM, Ctrl-C or `Shutdown`; what waits then is answered.

    Args:
        folder: of a finished run.
        tokens: `--name value` settings over those of the folder.
        name: what it is called; empty: as its scene.
        settings: where and how.
        ready: is told the model, the address and that of the metrics.

    Raises:
        UserError: whatever cannot be served.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("deepgen: %(message)s"))
    logging.getLogger("deepgen.controller").addHandler(handler)
    # as the launcher of a run: torch would take every core of the machine, also those that are not for this process
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    predictor = PredictorProcess(*reference_of(folder, tokens, name))
    try:
        model = ServedModel(predictor, name)
        end_all()  # programs of plugins that the process of the model has, too; an outputter's is started again
        model.warm_up()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.freeze()  # what is there by now stays, and need not be looked through again and again
        return asyncio.run(_serve(model, settings, ready))
    finally:
        predictor.close()


async def _serve(model: ServedModel, settings: Settings, ready: Callable[[ServedModel, str, str], None]) -> int:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled(number: int) -> Any:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled, number)
    server = Server(model, settings, asked.set)
    address = await server.start()
    try:
        ready(model, address, server.metrics_address)
        await asked.wait()
        if rows := server.waiting:
            print(f"deepgen: stopping; {rows} rows that wait are answered first", file=sys.stderr, flush=True)
    finally:
        await server.stop()
    return 0
