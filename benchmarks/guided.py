"""Latent guidance against beam search on words with several pronunciations: how M answers differ, and the best of them.

    python benchmarks/guided.py [--data FOLDER] [--ranks N] [--only WAY] [--name value …]   # settings of all

Scene pronounce_guided and a plain encoder-decoder learn the same rows with the same model, steps and settings; a second
plain one as long as guidance takes. Each word of eval.tsv gets M answers: of the M likeliest latents, one by greedy
search each, or the M best of 4 beams.
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

import yaml
from measure import HERE, environment
from measure import WORK as ALL

ROOT = HERE.parent
WORK = ALL / "guided"
SCENE = ROOT / "scenes" / "pronounce_guided.yaml"
GUIDED_ONLY = ("latent_class", "selected_class", "guided_mode", "em", "cls_loss_weight", "kl_loss_weight")
ANSWERS = (2, 4)
WAYS = {"guided": "latents", "beam": "beam search", "longer": "beam search, trained as long"}
"""Run folder and name in the table; `longer` gets as many more epochs as make its training cost what guidance costs."""
BY_LATENT = ["--selected_class"]
BY_BEAM = ["--num_beams", "4", "--num_return_sequences"]
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


def took(name: str) -> float:
    """The CPU seconds of a training that has run."""
    return float((WORK / f"{name}.txt").read_text(encoding="utf-8"))


def epochs() -> float:
    """Those of the scene."""
    return float(yaml.safe_load(SCENE.read_text(encoding="utf-8"))["num_train_epochs"])


def main() -> None:
    """Trains all, lets all answer, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "sample" / "pronounce_ways")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--only", choices=(*WAYS, "none"), help="run this one; print all as far as they ran")
    given, more = parser.parse_known_args()
    WORK.mkdir(parents=True, exist_ok=True)
    files = [f"--train_dir={given.data / 'train.tsv'}", f"--eval_dir={given.data / 'eval.tsv'}"]
    plain = plain_scene(WORK)
    lines = ["| answers | M | " + " | ".join(COLUMNS) + " | training, CPU s |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name, title in WAYS.items():
        folder, runs = WORK / name, given.only in (None, name)
        scene = SCENE if name == "guided" else plain
        if runs:
            longer = (
                ["--num_train_epochs", f"{epochs() * took('guided') / took('beam'):.1f}"] if name == "longer" else []
            )
            settings = [*files, "--do_eval", "false", "--eval_strategy", "no", *longer, *more]
            folder.with_suffix(".txt").write_text(str(run(scene, folder, given.ranks, settings)), encoding="utf-8")
        for answers in ANSWERS:
            there = folder.with_name(f"{name}-{answers}")
            if runs:
                by = BY_LATENT if name == "guided" else BY_BEAM
                settings = ["--model", str(folder / "model"), "--do_train", "false", *by, str(answers)]
                run(scene, there, 1, [*files, *settings, *more])
            if (there / "metrics.json").is_file():
                scores = json.loads((there / "metrics.json").read_text(encoding="utf-8"))
                cells = [f"{scores[key]:.4g}" for key in COLUMNS.values()]
                lines.append(f"| {title} | {answers} | {' | '.join(cells)} | {took(name):.0f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
