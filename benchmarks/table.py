"""The table of speeds: our runs, the peer and the limits in turns on one machine, medians over some rounds.

    python benchmarks/table.py [--rounds 3] [--only start features classify generate] [--show]

Every figure is added to benchmarks/.work/results.jsonl as it comes; `--show` prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import HERE, WORK, Done, Window, run, window

from deepgen.kernel.events import read_events

RESULTS = WORK / "results.jsonl"
SHORT = 2_400
"""Rows of an epoch, the same for all: 75 steps of 32 rows."""
BATCH = 32
BIG = 5
"""Times that the training rows are taken for a file of 100,000."""


def ours(scene: str, **settings: object) -> dict[str, float]:
    """Figures of a `deepgen run` on two ranks, from its events."""
    folder = WORK / "run"
    command = ["deepgen", "run", str(HERE / "scenes" / f"{scene}.yaml"), "--num_ranks", "2", "--tracking", "false"]
    command += ["--output_dir", str(folder), "--overwrite_output_dir", "true"]
    for name, value in settings.items():
        command += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return from_events(run(command), folder)


def from_events(done: Done, folder: Path) -> dict[str, float]:
    """What the events of a run tell about its speed."""
    marks: list[tuple[float, int]] = []
    predicted: Window | None = None
    total, stage, began = 0, "", 0.0
    seconds: dict[str, float] = {}
    for event in read_events(folder / "events.jsonl"):
        now = event.time.seconds + event.time.nanos / 1e9
        kind = event.WhichOneof("body")
        if kind in ("stage", "started", "predicted"):
            seconds[stage] = now - began
            stage, began = f"{event.stage.name}_{event.stage.detail}", now
        if kind == "progress" and event.progress.stage == "train":
            marks.append((now, event.progress.step))
            total = event.progress.total
        elif kind == "predicted":
            predicted = (
                now - seconds[next(name for name in seconds if name.startswith("predict"))],
                now,
                event.predicted.rows,
            )
    trained = window(marks, total, BATCH)
    figures = done.figures(marks[0][0] if marks else None, train=trained, predict=predicted)
    if "features_train" in seconds:
        figures["features_s"] = seconds["features_train"]
    return figures


def peer(task: str, *options: str) -> dict[str, float]:
    """Figures of the Trainer on two ranks."""
    return spoken(run(["deepspeed", "--num_accelerators", "2", str(HERE / "peer.py"), task, *options]))


def bare(task: str, *options: str) -> dict[str, float]:
    """Figures of a limit."""
    return spoken(run([sys.executable, str(HERE / "bare.py"), task, *options], ranks=2))


def spoken(done: Done) -> dict[str, float]:
    """Figures of a program that prints them."""
    said = done.said()
    windows = {name: said.pop(name, None) for name in ("train", "predict")}
    return {**done.figures(said.pop("first_step", None), **windows), **said}


def start(number: int) -> dict[str, Callable[[], dict[str, float]]]:
    """To the first step with 20,000 rows: features made anew, and from the cache."""
    rows, seed = {"train_dir": WORK / "cls_train.tsv", "max_steps": 2, "bf16": False}, str(number)
    short = ("--train", "cls_train.tsv", "--steps", "2", "--seed", seed)

    def anew() -> dict[str, float]:
        shutil.rmtree(WORK / "cache", ignore_errors=True)
        return ours("classify", **rows)

    return {
        "ours first": anew,
        "peer first": lambda: peer("classify", *short, "--fresh"),
        "ours again": lambda: ours("classify", **rows),
        "peer again": lambda: peer("classify", *short),
    }


def features(number: int) -> dict[str, Callable[[], dict[str, float]]]:
    """Against the raw tokenizer; and 100,000 text pairs in a run, made anew and from the cache."""
    rows = {"train_dir": WORK / "cls_big.tsv", "max_steps": 1, "do_predict": False}

    def anew() -> dict[str, float]:
        shutil.rmtree(WORK / "cache", ignore_errors=True)
        return ours("classify", **rows)

    return {
        "raw": lambda: run([sys.executable, str(HERE / "features.py")]).said(),
        "run first": anew,
        "run again": lambda: ours("classify", **rows),
    }


def classify(number: int) -> dict[str, Callable[[], dict[str, float]]]:
    """One epoch over the same rows, then prediction."""
    seed = str(42 + number)
    return {
        "ours": lambda: ours("classify", bf16=False, seed=seed),
        "peer": lambda: peer("classify", "--seed", seed),
        "bare train": lambda: bare("train", "--seed", seed),
        "bare predict": lambda: bare("predict"),
        "peer tuned": lambda: peer("classify", "--mode", "tuned", "--seed", seed),
        "ours bf16": lambda: ours("classify", bf16=True, seed=seed),
        "peer tuned bf16": lambda: peer("classify", "--mode", "tuned", "--bf16", "--seed", seed),
        "bare train bf16": lambda: bare("train", "--bf16", "--seed", seed),
        "bare predict bf16": lambda: bare("predict", "--bf16"),
    }


def generate(number: int) -> dict[str, Callable[[], dict[str, float]]]:
    """Beam search over 384 rows."""
    return {
        "ours": lambda: ours("generate", bf16=False),
        "peer": lambda: peer("generate"),
        "bare": lambda: bare("generate"),
        "ours bf16": lambda: ours("generate", bf16=True),
        "bare bf16": lambda: bare("generate", "--bf16"),
    }


PARTS = {part.__name__: part for part in (start, features, classify, generate)}

Side = tuple[str, str]
"""Part and case."""
DEFAULTS, TUNED, LOOP = "peer, defaults", "peer, tuned", "bare loop"
PAIRED: list[tuple[str, Side, str, str, str, float]] = [
    ("features, rows/s", ("features", "raw"), "features_rows_s", "raw_rows_s", "raw tokenizer", 0.8),
    ("training, rows/s", ("classify", "bare train"), "own_rows_s", "train_rows_s", LOOP, 0.95),
    ("training bf16, rows/s", ("classify", "bare train bf16"), "own_rows_s", "train_rows_s", LOOP, 0.95),
]
"""Measure, case, our figure, the other, what it is and the ratio to reach; one program measures both by turns."""
ROWS = [
    ("classify", "training, rows/s", "train_rows", "ours", DEFAULTS, "peer", "≥", 2.5),
    ("classify", "training, rows/s", "train_rows", "ours", TUNED, "peer tuned", "≥", 1.0),
    ("classify", "training bf16, rows/s", "train_rows", "ours bf16", TUNED, "peer tuned bf16", "≥", 1.0),
    ("classify", "prediction, rows/s", "predict_rows", "ours", DEFAULTS, "peer", "≥", 2.5),
    ("classify", "prediction bf16, rows/s", "predict_rows", "ours bf16", DEFAULTS, "peer", "≥", 2.5),
    ("classify", "prediction, rows/s", "predict_rows", "ours", LOOP, "bare predict", "≥", 0.9),
    ("classify", "prediction bf16, rows/s", "predict_rows", "ours bf16", LOOP, "bare predict bf16", "≥", 0.9),
    ("generate", "beam 4, rows/s", "predict_rows", "ours", DEFAULTS, "peer", "≥", 1.6),
    ("generate", "beam 4 bf16, rows/s", "predict_rows", "ours bf16", DEFAULTS, "peer", "≥", 1.6),
    ("generate", "beam 4, rows/s", "predict_rows", "ours", LOOP, "bare", "≥", 0.9),
    ("generate", "beam 4 bf16, rows/s", "predict_rows", "ours bf16", LOOP, "bare bf16", "≥", 0.9),
    ("start", "first step, features made anew, s", "first_step", "ours first", DEFAULTS, "peer first", "≤", 0.6),
    ("start", "first step, features cached, s", "first_step", "ours again", DEFAULTS, "peer again", "≤", 0.6),
    ("classify", "memory of a rank, PSS MB", "pss_mb", "ours", DEFAULTS, "peer", "≤", 1.0),
    ("classify", "memory of a rank bf16, PSS MB", "pss_mb", "ours bf16", TUNED, "peer tuned bf16", "≤", 1.0),
]
"""Part, measure, figure, our case, what it is held against, that case, and the ratio to reach.

In float32 unless bf16 is named; the peer's defaults are float32 always.
"""


def table(results: list[dict[str, Any]]) -> str:
    """The measures as Markdown: medians of both sides, and the medians of their ratios within a round."""

    def values(side: Side, figure: str) -> dict[int, float]:
        return {r["round"]: r[figure] for r in results if (r["part"], r["name"]) == side and figure in r}

    def ratios(figure: str, own: Side, other: Side) -> list[float]:
        left, right = values(own, figure), values(other, figure)
        return [left[one] / right[one] for one in sorted(left.keys() & right.keys())]

    lines = ["| measure | ours | | | ratio | by CPU time | target | met |", "|---|---|---|---|---|---|---|---|"]
    for measure, side, own_figure, figure, what, target in PAIRED:
        if own := values(side, own_figure):
            clock, cpu = (list(values(side, name).values()) for name in ("ratio", "ratio_cpu"))
            sides = statistics.median(own.values()), statistics.median(values(side, figure).values())
            median_cpu = f"{statistics.median(cpu):.2f}"
            lines.append(line(measure, sides, what, spread(clock), median_cpu, "≥", target, statistics.median(clock)))
    if again := values(("features", "run again"), "features_s"):
        seconds = statistics.median(again.values())
        lines.append(line("second start, features of 100,000 rows, s", (seconds, None), "", "", "", "≤", 1, seconds))
    for part, measure, figure, own_case, what, other_case, sign, target in ROWS:
        own_side, other = (part, own_case), (part, other_case)
        by_clock = ratios(figure if figure == "pss_mb" else f"{figure}_s", own_side, other)
        by_cpu = ratios(f"{figure}_cpu_s", own_side, other)
        if by_clock:
            name = figure if figure == "pss_mb" else f"{figure}_s"
            sides = statistics.median(values(own_side, name).values()), statistics.median(values(other, name).values())
            ratio = statistics.median(by_clock)
            cpu_ratio = f"{statistics.median(by_cpu):.2f}" if by_cpu else ""
            lines.append(line(measure, sides, what, spread(by_clock), cpu_ratio, sign, target, ratio))
    return "\n".join(lines)


def spread(ratios: list[float]) -> str:
    """The median, and the least and greatest of several."""
    middle = f"{statistics.median(ratios):.2f}"
    return f"{middle} ({min(ratios):.2f}-{max(ratios):.2f})" if len(ratios) > 1 else middle


def line(
    measure: str,
    sides: tuple[float, float | None],
    what: str,
    ratio: str,
    cpu: str,
    sign: str,
    target: float,
    met: float,
) -> str:
    """A row of the table."""
    own, other = (number(side) if side is not None else "" for side in sides)
    reached = "yes" if (met >= target if sign == "≥" else met <= target) else "no"
    return f"| {measure} | {own} | {what} | {other} | {ratio} | {cpu} | {sign} {target:g} | {reached} |"


def number(value: float) -> str:
    """As many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def main() -> None:
    """Measures what is asked for, round by round, and prints the table of all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--cases", nargs="+", help="only cases whose name holds one of these")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    given = parser.parse_args()
    rounds = 0 if given.show else given.rounds
    rows = (WORK / "cls_train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (WORK / "cls_short.tsv").write_text("".join(rows[:SHORT]), encoding="utf-8")
    (WORK / "cls_big.tsv").write_text("".join(rows * BIG), encoding="utf-8")
    first = max((figures["round"] for figures in measured()), default=-1) + 1
    for turn in range(first, first + rounds):
        for part in given.only:
            for name, case in PARTS[part](turn).items():
                if given.cases and not any(word in name for word in given.cases):
                    continue
                load = Path("/proc/loadavg").read_text(encoding="ascii").split()[0]
                figures = {"part": part, "name": name, "round": turn, "load": float(load), **case()}
                print(time.strftime("%H:%M:%S"), json.dumps(figures), flush=True)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(figures) + "\n")
    print(table(measured()))


def measured() -> list[dict[str, Any]]:
    """All figures of this and earlier sessions."""
    return [json.loads(text) for text in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.exists() else []


if __name__ == "__main__":
    main()
