"""What the benchmarks share: starting programs, sampling the memory and CPU of their ranks, reading their figures."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORK = HERE / ".work"
RESULT = "RESULT "
"""How the line with a program's figures begins."""
WARM_UP = 0.2
"""Share of the steps that training rates leave out."""
Window = tuple[float, float, int]
"""Begin, end (seconds since 1970) and the rows that were done between them."""


def environment() -> dict[str, str]:
    """What every measured program runs with: no network, no GPU, one thread of torch for each rank."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given['PATH']}"  # for `deepspeed` and `deepgen`
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        given.pop(name, None)
    return given


@dataclass
class Done:
    """A program that has ended."""

    output: str
    started: float
    """Seconds since 1970."""
    samples: Sampler

    def said(self) -> dict[str, Any]:
        """The figures that it printed."""
        lines = [line for line in self.output.splitlines() if line.startswith(RESULT)]
        if not lines:
            raise SystemExit(f"no figures in\n{self.output[-4000:]}")
        figures: dict[str, Any] = json.loads(lines[-1].removeprefix(RESULT))
        return figures

    def figures(self, first_step: float | None, **windows: Window | None) -> dict[str, float]:
        """Speeds by the clock and by CPU time, seconds to the first step, and the greatest memory of a rank."""
        found = {"pss_mb": max(self.samples.pss.values(), default=0.0)}
        if first_step is not None:
            found["first_step_s"] = first_step - self.started
            found["first_step_cpu_s"] = self.samples.cpu_at(first_step)
        for name, window in windows.items():
            if window is not None:
                begin, end, rows = window
                found[f"{name}_rows_s"] = rows / (end - begin)
                # CPU time of other programs does not count, so this says the same on a machine that is shared
                found[f"{name}_rows_cpu_s"] = rows / (self.samples.cpu_at(end) - self.samples.cpu_at(begin))
        return {name: round(value, 3) for name, value in found.items()}


def run(command: Sequence[str], ranks: int = 0) -> Done:
    """Runs a program to its end; with `ranks`, that many times, as a launcher would. Ends the benchmark if it fails."""
    started = time.time()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env={**environment(), **({**meet, "RANK": str(rank)} if ranks else {})},
            stdout=subprocess.DEVNULL if rank else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(max(ranks, 1))
    ]
    sampler = Sampler([process.pid for process in processes])
    sampler.start()
    output, _ = processes[0].communicate()
    codes = [process.wait() for process in processes]
    sampler.stop.set()
    sampler.join()
    if any(codes):
        raise SystemExit(f"{' '.join(command)} failed with {codes}:\n{output[-4000:]}")
    return Done(output, started, sampler)


class Sampler(threading.Thread):
    """Watches processes and all below them, twice a second."""

    def __init__(self, roots: Sequence[int]) -> None:
        super().__init__(daemon=True)
        self.roots, self.stop = roots, threading.Event()
        self.pss: dict[int, float] = {}
        """MB by rank, at its greatest: the pages of its own, and its share of those that several processes use."""
        self.cpu: list[tuple[float, float]] = [(time.time(), 0.0)]
        """(when, CPU seconds of all processes until then)."""
        self._seconds: dict[int, float] = {}

    def run(self) -> None:
        """Samples until `stop` is set."""
        while not self.stop.wait(0.5):
            for process in _family(self.roots):
                try:
                    folder = Path(f"/proc/{process}")
                    stat = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                    self._seconds[process] = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
                    if b"\0RANK=" not in b"\0" + (folder / "environ").read_bytes():
                        continue
                    text = (folder / "smaps_rollup").read_text(encoding="ascii")
                except OSError:  # it has just ended
                    continue
                pss = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
                self.pss[process] = max(self.pss.get(process, 0.0), pss / 1024)
            self.cpu.append((time.time(), sum(self._seconds.values())))

    def cpu_at(self, when: float) -> float:
        """CPU seconds until then, between two samples in proportion."""
        place = min(max(bisect_left(self.cpu, (when, 0.0)), 1), len(self.cpu) - 1)
        (begin, first), (end, last) = self.cpu[place - 1], self.cpu[place]
        return first + (last - first) * (when - begin) / (end - begin)


def _family(roots: Sequence[int]) -> list[int]:
    """Processes and all below them."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            below.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found = [*roots]
    for process in found:
        found += below.get(process, [])
    return found


def tell(**figures: Any) -> None:
    """Prints figures for `Done.said`."""
    print(RESULT + json.dumps(figures), flush=True)


def window(marks: Sequence[tuple[float, int]], total: int, rows: int) -> Window | None:
    """The part of training that counts, from marks of (when, steps done), `rows` a step; None for a few steps."""
    counted = [mark for mark in marks if mark[1] >= WARM_UP * total]
    if len(counted) < 2:
        return None
    (begin, first), (end, last) = counted[0], counted[-1]
    return begin, end, (last - first) * rows
