"""The scores of the scenes on the full data sets: score, target and minutes of each.

    python benchmarks/scores.py [SCENE …] [--data FOLDER] [--name value …]     # other settings go to every run

Run folders lie in benchmarks/.work/scores/; their metrics.json holds all scores. A data set that is not there is passed
over. Spelling to sound is also scored on its test file, in which a word may have several right answers. Twin encoders
are also scored as they are before training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from measure import HERE, WORK, environment

ROOT = HERE.parent
# scene: (score, sign, target, minutes)
TARGETS = {
    "sentiment": ("eval_auc", "≥", 0.965, 20),
    "tweets": ("eval_pearson", "≥", 0.93, 20),
    "packages": ("eval_acc", "≥", 0.82, 20),
    "tags": ("eval_auc", "≥", 0.88, 30),
    "pronounce": ("eval_sequence_error_rate", "≤", 0.30, 90),
    "synopses": ("eval_recall_at_1", "≥", 0.86, 30),
}
DATA = {"synopses": "packages"}
"""The folder of a scene's data, where it has another name."""
TEST = "pronounce"
"""The scene whose score is that of the test file."""
UNTRAINED = "synopses"
"""The scene whose model has a score before it is trained."""


def run(scene: str, folder: Path, settings: Iterable[str]) -> tuple[dict[str, float], float]:
    """Runs a scene on two ranks; its scores and minutes."""
    command = [
        "deepgen",
        "run",
        scene,
        "--num_ranks",
        "2",
        "--output_dir",
        str(folder),
        "--overwrite_output_dir",
        "true",
    ]
    begin = time.monotonic()
    subprocess.run([*command, *settings], cwd=ROOT, env=environment(), check=True, stdout=sys.stderr)
    scores: dict[str, float] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return scores, (time.monotonic() - begin) / 60


def main() -> None:
    """Runs the scenes one after the other and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"by default {', '.join(TARGETS)}")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, nargs="+", help="run with each of these seeds and give the mean")
    given, more = parser.parse_known_args()
    lines = ["| scene | score | | target | minutes | at most | met |", "|---|---|---|---|---|---|---|"]
    for scene in given.scenes or TARGETS:
        data = given.data / DATA.get(scene, scene)
        if not data.is_dir():
            print(f"{scene}: {data} is not there", file=sys.stderr)
            continue
        name, sign, target, most = TARGETS[scene]
        files = {split: str(data / file) for split, file in
                 (("train", "train.tsv"), ("eval", "eval.tsv"), ("predict", "eval.tsv"))}  # fmt: skip
        found, minutes, before = [], 0.0, ""
        for seed in given.seeds or [None]:
            folder = WORK / "scores" / (scene if seed is None else f"{scene}-{seed}")
            settings = [word for split, file in files.items() for word in (f"--{split}_dir", file)]
            settings += more if seed is None else [*more, "--seed", str(seed)]
            if scene == UNTRAINED:
                alone = ["--do_train", "false", "--do_predict", "false"]
                scores, _ = run(scene, folder.with_name(f"{folder.name}-untrained"), [*settings, *alone])
                before = f" (untrained: {scores[name]:.4f})"
            scores, took = run(scene, folder, settings)
            if scene == TEST:
                test = ["--model", str(folder / "model"), "--do_train", "false", "--do_predict", "false"]
                test += ["--eval_dir", str(data / "test.tsv"), "--reference_separator", " | ", *more]
                scores, _ = run(scene, folder.with_name(f"{folder.name}-test"), test)
            print(f"{scene}: {json.dumps(scores)}, {took:.1f} min", file=sys.stderr)
            found.append(scores[name])
            minutes = max(minutes, took)
        score = statistics.mean(found)
        met = (score >= target if sign == "≥" else score <= target) and minutes <= most
        spread = f" ({min(found):.4f}-{max(found):.4f})" if len(found) > 1 else ""
        lines.append(
            f"| {scene} | {name} | {score:.4f}{spread}{before} | {sign} {target:g} | {minutes:.1f} | {most} | "
            f"{'yes' if met else 'no'} |"
        )
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
