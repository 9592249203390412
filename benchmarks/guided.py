"""Latent guidance against beam search on words with several pronunciations: how M answers differ, and the best of them.

    python benchmarks/guided.py [--data FOLDER] [--ranks N] [--only guided|beam|none] [--name value …]   # of both

Scene pronounce_guided and a plain encoder-decoder learn the same rows with the same model, steps and settings. Then
each word of eval.tsv gets M answers: of the M likeliest latents, one by greedy search each, or the M best of 4 beams.
Run folders lie in benchmarks/.work/guided/.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import HERE, WORK, environment

ROOT = HERE.parent
SCENE = ROOT / "scenes" / "pronounce_guided.yaml"
GUIDED_ONLY = ("latent_class", "selected_class", "guided_mode", "em", "cls_loss_weight", "kl_loss_weight")
ANSWERS = (2, 4)
COLUMNS = {
    "distinct-1": "eval_distinct_1",
    "distinct-2": "eval_distinct_2",
    "distinct texts": "eval_distinct_texts",
    "self-BLEU": "eval_self_bleu",
    "best: exact": "eval_exact_match",
    "best: phone error": "eval_token_error_rate",
}


def plain_scene(folder: Path) -> Path:
    """The guided scene as one of plain seq2seq."""
    lines = SCENE.read_text(encoding="utf-8").replace("task: guided_seq2seq", "task: seq2seq").splitlines()
    kept = [line.replace(" ../", f" {ROOT}/") for line in lines if not line.startswith(GUIDED_ONLY)]
    made = folder / "plain.yaml"
    made.write_text("\n".join(kept).replace("scratch:", f"scratch:{SCENE.parent}/") + "\n", encoding="utf-8")
    return made


def run(scene: Path, folder: Path, ranks: int, settings: Sequence[str]) -> float:
    """Runs a scene; the CPU seconds that it took."""
    command = ["deepgen", "run", str(scene), "--num_ranks", str(ranks), "--output_dir", str(folder)]
    command += ["--overwrite_output_dir", "true", "--do_predict", "false", "--tracking", "false", *settings]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, stdout=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Trains both, lets both answer, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "sample" / "pronounce_ways")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument(
        "--only", choices=("guided", "beam", "none"), help="run this one; print both as far as they ran"
    )
    given, more = parser.parse_known_args()
    work = WORK / "guided"
    work.mkdir(parents=True, exist_ok=True)
    files = [f"--train_dir={given.data / 'train.tsv'}", f"--eval_dir={given.data / 'eval.tsv'}"]
    ways = {
        "guided": (SCENE, lambda answers: ["--selected_class", str(answers)]),
        "beam": (
            plain_scene(work),
            lambda answers: ["--num_beams", "4", "--num_return_sequences", str(answers)],
        ),
    }
    lines = ["| answers | M | " + " | ".join(COLUMNS) + " | training, CPU s |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name, (scene, answering) in ways.items():
        folder, runs = work / name, given.only in (None, name)
        note = folder.with_suffix(".json")
        if runs:
            seconds = run(scene, folder, given.ranks, [*files, "--do_eval", "false", "--eval_strategy", "no", *more])
            note.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
        for answers in ANSWERS:
            there = folder.with_name(f"{folder.name}-{answers}")
            if runs:
                only = ["--model", str(folder / "model"), "--do_train", "false", *answering(answers)]
                run(scene, there, 1, [*files, *only, *more])
            if not (there / "metrics.json").is_file():
                continue
            scores = json.loads((there / "metrics.json").read_text(encoding="utf-8"))
            cells = [f"{scores[key]:.4g}" for key in COLUMNS.values()]
            seconds = json.loads(note.read_text(encoding="utf-8"))["seconds"]
            lines.append(f"| {name} | {answers} | {' | '.join(cells)} | {seconds:.0f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
