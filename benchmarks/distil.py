"""Distillation from end to end: a teacher, its result files, a student of two layers; accuracy kept and speed gained.

    python benchmarks/distil.py [--data FOLDER] [--rounds 3] [--again] [--name value …]   # others: the student's

The teacher is scene `sentiment`, the student scene `distil`, which starts with the teacher's first layers and learns
what it says of the training texts of `sentiment` and `tweets` and of pieces of them; by default on sample/. Both
predict the texts of `sentiment` by turns, and each ratio of speeds is taken within a round. Run folders lie in
benchmarks/.work/distil/; with `--again` the teacher that is there, and what it said, are taken again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from measure import HERE, WORK, Done, run
from table import from_events

ROOT = HERE.parent
PLACE = WORK / "distil"
KEPT, FASTER = 0.97, 2.0
"""The share of the teacher's accuracy, and the ratio of speeds, to reach."""
RANKS = ("--num_ranks", "2", "--tracking", "false")


def train(scene: str, folder: Path, *settings: str) -> None:
    """Runs a scene."""
    command = ["deepgen", "run", str(ROOT / "scenes" / f"{scene}.yaml"), *RANKS, "--overwrite_output_dir", "true"]
    run([*command, "--output_dir", str(folder), "--do_predict", "false", *settings])


def predict(model: Path, texts: Path, header: str, result: Path, *settings: str) -> dict[str, float]:
    """Lets a model predict a file; rows a second and a CPU second."""
    folder = PLACE / "predict"
    command = ["deepgen", "predict", "--from", str(model), *RANKS, "--overwrite_output_dir", "true"]
    command += ["--predict_dir", str(texts), "--predict_header", header, "--result_header", "text"]
    command += ["--result_file", str(result), "--output_dir", str(folder), *settings]
    done: Done = run(command)
    return from_events(done, folder)


def pieces(files: Sequence[Path], made: Path) -> None:
    """Writes two runs of words of each text, three words at least: n-gram sampling, arXiv 1903.12136, section 3.3."""
    draw = random.Random(7)
    with made.open("w", encoding="utf-8") as file:
        for line in itertools.chain.from_iterable(path.open(encoding="utf-8") for path in files):
            words = line.rstrip("\n").split("\t")[0].split()
            for _ in range(2 if len(words) > 3 else 0):
                count = draw.randint(3, len(words) - 1)
                begin = draw.randint(0, len(words) - count)
                file.write(" ".join(words[begin : begin + count]) + "\n")


def accuracy(folder: Path) -> float:
    """That of a run on the evaluation file."""
    found: float = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["eval_acc"]
    return found


def compare(data: Path, rounds: int, again: bool, more: Sequence[str]) -> str:
    """The table."""
    sentences, tweets = data / "sentiment", data / "tweets"
    teacher, student, said = PLACE / "teacher", PLACE / "student", PLACE / "said"
    said.mkdir(parents=True, exist_ok=True)
    held = ("--eval_dir", str(sentences / "eval.tsv"))
    if not again:
        train("sentiment", teacher, "--train_dir", str(sentences / "train.tsv"), *held)
        written = ("--output_type", "score", "--score_precision", "4")
        predict(teacher / "model", sentences / "train.tsv", "text,label", said / "sentiment.tsv", *written)
        predict(teacher / "model", tweets / "train.tsv", "text,score", said / "tweets.tsv", *written)
        pieces([sentences / "train.tsv", tweets / "train.tsv"], PLACE / "pieces.tsv")
        predict(teacher / "model", PLACE / "pieces.tsv", "text", said / "pieces.tsv", *written)
    train("distil", student, "--model", str(teacher / "model"), "--train_dir", str(said), *held, *more)
    right = {"teacher": accuracy(teacher), "student": accuracy(student)}
    speeds = [
        {
            name: predict(folder / "model", sentences / "train.tsv", "text,label", PLACE / "rest.txt")
            for name, folder in (("teacher", teacher), ("student", student))
        }
        for _ in range(rounds)
    ]
    lines = ["| measure | teacher | student | ratio | by CPU time | target | met |", "|---|---|---|---|---|---|---|"]
    kept = right["student"] / right["teacher"]
    lines.append(
        f"| accuracy | {right['teacher']:.4f} | {right['student']:.4f} | {kept:.3f} | | ≥ {KEPT} | "
        f"{'yes' if kept >= KEPT else 'no'} |"
    )
    clock, cpu = (
        [one["student"][figure] / one["teacher"][figure] for one in speeds]
        for figure in ("predict_rows_s", "predict_rows_cpu_s")
    )
    rates = [statistics.median(one[name]["predict_rows_s"] for one in speeds) for name in ("teacher", "student")]
    ratio = statistics.median(clock)
    lines.append(
        f"| prediction, rows/s | {rates[0]:.0f} | {rates[1]:.0f} | {ratio:.2f} ({min(clock):.2f}-{max(clock):.2f}) | "
        f"{statistics.median(cpu):.2f} | ≥ {FASTER:g} | {'yes' if ratio >= FASTER else 'no'} |"
    )
    return "\n".join(lines)


def main() -> None:
    """Trains both and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "sample")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--again", action="store_true")
    given, more = parser.parse_known_args()
    print(compare(given.data.resolve(), given.rounds, given.again, more))


if __name__ == "__main__":
    main()
