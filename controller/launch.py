"""The command and the environment of an attempt: the `deepspeed` launcher over kernel.worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepgen.v1.job_pb2 import Attempt, Job

from .executor import Spec

REMOVED = (
    "DEEPGEN_*",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_SIZE",
    "LOCAL_WORLD_SIZE",
    "CROSS_RANK",
    "CROSS_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_*",
    "CUDA_VISIBLE_DEVICES",
    "NOTIFY_SOCKET",
    "LISTEN_*",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
)
"""Of the controller's environment: what would tell ranks that they belong to somebody else, and what is our own."""
SCENE = "scene.yaml"
"""The scene as it was admitted, in the folder of its job: all its settings, and no others, are what runs."""
RUN = "run"
"""The run folder, in the folder of its job: one for all attempts, which go on from each other's checkpoints."""
RANK_LOGS = "ranks"
"""Folder of `STAMP_rankN.log`, in that of the attempt; the launcher's own output is in launcher.log beside it."""


@dataclass(frozen=True)
class Machine:
    """What attempts are started on."""

    slots: int
    """How many there are; CPU slots share the cores evenly."""
    working_folder: Path
    """Where ranks run."""
    devices: tuple[str, ...] = ()
    """The GPU of each slot as CUDA names it: an index, a UUID or a MIG id. Empty: slots are of the CPU."""


def job_folder(state: Path, job_id: str) -> Path:
    """`STATE/jobs/ID`."""
    return state / "jobs" / job_id


def attempt_folder(state: Path, job_id: str, number: int) -> Path:
    """`STATE/jobs/ID/attempts/N`."""
    return job_folder(state, job_id) / "attempts" / str(number)


def write_scene(home: Path, text: str) -> None:
    """Puts the admitted scene into the folder of its job; each time anew, as a power cut may have taken it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = home / f".{SCENE}.new"
    aside.write_text(text, encoding="utf-8")
    aside.replace(home / SCENE)


def command(
    job: Job,
    attempt: Attempt,
    folder: Path,
    slots: Sequence[int],
    machine: Machine,
    *,
    from_scratch: bool = False,
) -> Spec:
    """What starts this attempt. Touches nothing.

    Args:
        job: for its spec.
        attempt: for its uid.
        folder: of the attempt, absolute.
        slots: those it holds, one for each rank.
        machine: where it is started.
        from_scratch: empty the run folder instead of going on from what is in it.
    """
    ranks = job.spec.ranks or 1
    if len(slots) != ranks:
        raise ValueError(f"{ranks} ranks on {len(slots)} slots")
    home = folder.parent.parent
    # `python -m`, not the script: the same interpreter, whatever PATH says
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner"]
    options = ["-H", str(folder / "hostfile"), "--num_gpus", str(ranks), "--no_local_rank"]
    logs = ["--enable_each_rank_log", str(folder / RANK_LOGS), "--module", "deepgen.kernel.worker"]
    worker = ["--scene", str(home / SCENE), f"--output_dir={home / RUN}"]
    if from_scratch:
        worker.append("--overwrite_output_dir=true")
    return Spec(
        uid=attempt.uid,
        folder=folder,
        command=(*launcher, *options, *logs, *worker),
        ranks=ranks,
        working_folder=machine.working_folder,
        environment=environment(attempt.uid, folder, slots, machine),
        removed=REMOVED,
    )


def environment(uid: str, folder: Path, slots: Sequence[int], machine: Machine) -> dict[str, str]:
    """What the launcher and its ranks get besides the controller's environment."""
    devices = ",".join(machine.devices[slot] for slot in slots) if machine.devices else ""
    added = {
        "DEEPGEN_ATTEMPT": str(folder),
        "DEEPGEN_ATTEMPT_ID": uid,
        # a file, not a port: two runs cannot take each other's, or join each other by mistake
        "DEEPGEN_RENDEZVOUS": f"file://{folder}/rendezvous",
        # the ranks take their devices from here, since the launcher knows GPUs by index only, and renumbers them
        "DEEPGEN_DEVICES": devices,
        "DS_ENV_FILE": os.devnull,
        # the interpreter's own tools: DeepSpeed builds its CPU optimizer with ninja
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    if not machine.devices:
        added["DS_ACCELERATOR"] = "cpu"
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0))
        added["OMP_NUM_THREADS"] = str(max(1, cores // max(1, len(slots) if machine.devices else machine.slots)))
    return added
