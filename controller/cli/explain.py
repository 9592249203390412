"""`deepgen explain ID`: why a job waits, behind which jobs, and when it is expected to start."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .arguments import JSON, REMOTE, help_of, read
from .display import id_of, lasted, moment, plain, print_json, seconds_of, state_of

OPTIONS = (JSON, *REMOTE)
_SHOWN = 10


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen explain --help` prints."""
    text = "The expected start is known where time limits or the speed of what runs tell when slots come free."
    return help_of("explain ID [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Prints the explanation."""
    given = read("explain", arguments, OPTIONS)
    name = given.only(1, 1, "one job id")[0]
    with given.client() as client:
        job = client.find(name)
        told = client.explain(job.name)
    if given.as_json:
        print_json(told, lines=False)
        return 0
    print(f"{id_of(job)}  {type(job).State.Name(told.state) if told.state else state_of(job)}: {plain(told.summary)}")
    if told.slots_wanted:
        print(f"  slots      wants {told.slots_wanted}; {told.slots_free} of {told.slots_total} are free")
    if told.position:
        print(f"  position   {told.position}{' (the next to start)' if told.position == 1 else ''}")
    if told.behind:
        more = f" and {len(told.behind) - _SHOWN} more" if len(told.behind) > _SHOWN else ""
        print(f"  behind     {', '.join(name.removeprefix('jobs/') for name in told.behind[:_SHOWN])}{more}")
    if told.HasField("predicted_start"):
        left = seconds_of(told.predicted_start) - time.time()
        print(f"  starts     about {moment(told.predicted_start)}, in {lasted(left)}")
    return 0
