"""A rank that ends without a word, whatever its exit code, is a failed run, which names it and not whom it left."""

import json
from pathlib import Path

from .conftest import Deepgen, at_once

LEAVING = """
from dataclasses import dataclass
import os
import signal
from deepgen.kernel.registry import trainer
from deepgen.plugins.trainers.common import Common

@trainer("leaving")
@dataclass
class Leaving(Common):
    \"\"\"Ends one rank.\"\"\"
    leaving_rank: int = 0
    \"\"\"The one.\"\"\"
    leaving_how: str = "exit"
    \"\"\"Or killed.\"\"\"
    def step(self, run, micro_batches):
        if run.engine.rank == self.leaving_rank:
            if self.leaving_how == "exit":
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(run, micro_batches)
"""


WAYS = (
    (1, 0, "exit", "rank 0 ended by itself with exit code 0 before the run was done"),
    (2, 1, "exit", "rank 1 ended by itself with exit code 0 before the run was done"),
    (2, 0, "kill", "rank 0 was ended by SIGKILL; the machine may be out of memory"),
)


def test_the_rank_that_left_is_named(place: Path, deepgen: Deepgen) -> None:
    (place / "leaving.py").write_text(LEAVING)
    run = ("run", "sentiment.yaml", "--plugin", "leaving.py", "--trainer", "leaving", "--tracking", "false")
    told = at_once(
        lambda *words: deepgen(*words, exits=1),
        *(
            [*run, "--num_ranks", str(ranks), "--leaving_rank", str(rank), "--leaving_how", how, "--output_dir", said]
            for ranks, rank, how, said in WAYS
        ),
    )
    for done, (_, rank, _, said) in zip(told, WAYS, strict=True):
        assert done.stderr.splitlines()[-1] == f"deepgen: {said}; its log is {place / said}/log/rank_{rank}.log"
        assert "Traceback" not in done.stderr
        last = json.loads((place / said / "events.jsonl").read_text().splitlines()[-1])["finished"]
        assert last["state"] == "FAILED"
        assert last["message"].startswith(said)
