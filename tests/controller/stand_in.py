"""A stand-in for `deepspeed` and its ranks: two stages and N light processes that behave as told. Stdlib only.

`stand_in.py BEHAVIOUR` is the launcher, with the faults of the real one: its first stage exits 0 when the second is
killed, and leaves everything running when it is killed itself. BEHAVIOUR is a JSON object; by name of the key:

    ranks          how many; 1
    steps          lines each rank prints; 1
    gate           a file: the ranks end when it is there; without it at once
    stubborn       the ranks ignore SIGTERM; otherwise they write checkpoint_N and end with 130
    children       detached processes of each rank, which ignore SIGTERM
    tracker        rank 0 starts a detached process that says DEEPGEN_TRACKER=1 and ends with the file `gate`.tracker
    until          a file: as `gate`, also for ranks that are to fail
    checkpoint     seconds that a checkpoint takes; 0
    launched       a folder: the launcher leaves a file ATTEMPT_ID there, and ATTEMPT_ID.twice when there was one
    hold           a file: the launcher starts no rank before it is there
    bytes          so much more is printed by each rank, in one go
    exit           {"RANK": code}; 0
    error          {"RANK": text}: left as rank_N.error
    signal         {"RANK": number}: the rank ends itself with it
    unrecorded     [RANK]: ranks that leave no record of being done
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

POLL = 0.01


def launcher(told: dict[str, Any]) -> int:
    """The first stage: `deepspeed`, which takes a signal that ended the second one for success."""
    if folder := told.get("launched"):
        launched = os.path.join(folder, os.environ["DEEPGEN_ATTEMPT_ID"])
        try:
            os.close(os.open(launched, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            leave(Path(f"{launched}.twice"), "")
    code = subprocess.call([*PYTHON, __file__, "--launch", json.dumps(told)])
    return code if code > 0 else 0


def launch(told: dict[str, Any]) -> int:
    """The second stage: starts the ranks; when one fails it asks the others to end, one after another."""
    wait_for(told.get("hold"))
    ranks = int(told.get("ranks", 1))
    logs = Path(os.environ["DEEPGEN_ATTEMPT"], "ranks")
    logs.mkdir(exist_ok=True)
    processes = []
    for rank in range(ranks):
        with (logs / f"20260101000000_rank{rank}.log").open("wb") as log:
            environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(ranks)}
            command = [*PYTHON, __file__, "--rank", json.dumps(told)]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    alive = set(processes)
    while alive:
        for process in list(alive):
            if process.poll() is None:
                continue
            if process.returncode != 0:
                for other in processes:
                    if other.poll() is None:
                        other.terminate()
                for other in processes:
                    other.wait()
                print(f"exits with return code = {process.returncode}", flush=True)
                return process.returncode & 255
            alive.remove(process)
        time.sleep(POLL)
    return 0


def run(told: dict[str, Any]) -> int:
    """One rank."""
    rank, attempt = os.environ["RANK"], Path(os.environ["DEEPGEN_ATTEMPT"])

    def checkpoint(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        time.sleep(float(told.get("checkpoint", 0)))
        leave(attempt / f"checkpoint_{rank}", "")
        leave(attempt / f"rank_{rank}.code", "130")
        os._exit(130)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if told.get("stubborn") else checkpoint)
    for _ in range(int(told.get("children", 0))):
        detached("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(3600)")
    if told.get("tracker") and rank == "0":
        program = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
        detached(program, f"{told['gate']}.tracker", DEEPGEN_TRACKER="1")
    me = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    record = {"pid": os.getpid(), "start_time": int(me[19]), "boot_id": boot}
    leave(attempt / f"rank_{rank}.pid", json.dumps(record))
    for step in range(int(told.get("steps", 1))):
        print(f"rank {rank} step {step}", flush=True)
    if told.get("bytes"):
        print("x" * int(told["bytes"]), flush=True)
    wait_for(told.get("until"))
    if number := told.get("signal", {}).get(rank):
        os.kill(os.getpid(), number)
    code = int(told.get("exit", {}).get(rank, 0))
    if code == 0:
        wait_for(told.get("gate"))
    if text := told.get("error", {}).get(rank):
        leave(attempt / f"rank_{rank}.error", text)
    if code != 0:
        leave(attempt / f"rank_{rank}.code", str(code))
    elif int(rank) not in told.get("unrecorded", ()):
        leave(attempt / f"rank_{rank}.done", "")
    return code


def wait_for(file: str | None) -> None:
    """Until the file is there."""
    while file and not os.path.exists(file):
        time.sleep(POLL)


def detached(program: str, *arguments: str, **environment: str) -> None:
    """Starts a process in a session of its own."""
    subprocess.Popen([*PYTHON, "-c", program, *arguments], env={**os.environ, **environment}, start_new_session=True)


def leave(path: Path, text: str) -> None:
    """A file, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.rename(path)


PYTHON = [sys.executable, "-I", "-S"]
"""Starts in a few milliseconds."""

if __name__ == "__main__":
    stage = {"--launch": launch, "--rank": run}.get(sys.argv[1], launcher)
    sys.exit(stage(json.loads(sys.argv[-1])))
