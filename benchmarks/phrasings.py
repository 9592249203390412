"""Latent guidance against beam search on packages that are described in two ways: a synopsis and a sentence.

    python benchmarks/phrasings.py --data FOLDER [--name value …]      # FOLDER: train.tsv, eval.tsv of packages

The source is the rest of a description; its targets are the synopsis and the first sentence. A plain encoder-decoder
learns both for six epochs. From there it goes on for 3.4 epochs, and with four latents for two. `each`: the best of M
texts against each target by itself; `any`: against the nearer one.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from guided import run
from measure import WORK as ALL

WORK = ALL / "phrasings"
MODEL = """model_type: bart
d_model: 128
encoder_layers: 2
decoder_layers: 2
encoder_attention_heads: 4
decoder_attention_heads: 4
encoder_ffn_dim: 384
decoder_ffn_dim: 384
activation_function: relu
scale_embedding: true
dropout: 0.1
max_position_embeddings: 128
tokenizer: {model: bpe, vocab_size: 4000, lowercase: true}
"""
SCENE = """task: seq2seq
model: scratch:model.yaml
train_dir: train.tsv
eval_dir: each.tsv
train_header: rest,way
train_model_header: s2s_tokenize:rest:way:tokens
source_max_length: 48
max_length: 32
eval_metrics: token_error_rate,distinct_n,self_bleu,rouge:rougeL
reference_separator: " | "
best_of_candidates: true
per_device_train_batch_size: 64
per_device_eval_batch_size: 64
learning_rate: 1.0e-3
weight_decay: 0.01
warmup_steps: 100
adam_beta2: 0.98
eval_strategy: no
save_strategy: no
num_beams: 4
"""
GUIDED = "latent_class: 4\nselected_class: 4\ndistinct_texts: true\n"
ROWS = 400
COLUMNS = ("distinct_2", "self_bleu", "rougeL", "token_error_rate")


def packages(file: Path) -> Iterator[tuple[str, str, str]]:
    """The rest of each description, its synopsis and its first sentence."""
    for line in file.read_text(encoding="utf-8").splitlines():
        synopsis, description, *_ = line.split("\t")
        first, _, rest = re.sub(r"([.!?]) ", r"\1\t", description, count=1).partition("\t")
        if 3 <= len(first.split()) <= 24 and len(rest.split()) >= 8:
            yield rest, synopsis, first.removesuffix(".")


def prepare(data: Path) -> None:
    """The files of the runs."""
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "model.yaml").write_text(MODEL)
    (WORK / "plain.yaml").write_text(SCENE)
    (WORK / "guided.yaml").write_text(SCENE.replace("seq2seq", "guided_seq2seq", 1) + GUIDED)
    held = list(packages(data / "eval.tsv"))[:ROWS]
    for name, rows in (("train", packages(data / "train.tsv")), ("each", held)):
        lines = [f"{rest}\t{way}\n" for rest, *ways in rows for way in ways]
        (WORK / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    lines = [f"{rest}\t{' | '.join(ways)}\n" for rest, *ways in held]
    (WORK / "any.tsv").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Trains, lets both answer, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    given, more = parser.parse_known_args()
    prepare(given.data)
    plain, guided = WORK / "plain.yaml", WORK / "guided.yaml"
    start, still = ("--model", str(WORK / "start" / "model")), ("--do_eval", "false")
    run(plain, WORK / "start", 1, ["--num_train_epochs", "6", "--learning_rate", "2e-3", *still, *more])
    took = {
        "beam search": run(plain, WORK / "plain", 1, [*start, "--num_train_epochs", "3.4", *still, *more]),
        "latents": run(guided, WORK / "guided", 1, [*start, "--num_train_epochs", "2", *still, *more]),
    }
    print("| answers | M | against | " + " | ".join(COLUMNS) + " | training, CPU s |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for title, scene, name, count in (
        ("beam search", plain, "plain", "num_return_sequences"),
        ("latents", guided, "guided", "selected_class"),
    ):
        for answers in ("2", "4"):
            for against in ("each", "any"):
                there = WORK / f"{name}-{answers}-{against}"
                settings = ["--model", str(WORK / name / "model"), "--do_train", "false", f"--{count}", answers]
                run(scene, there, 1, [*settings, "--eval_dir", str(WORK / f"{against}.tsv")])
                scores = json.loads((there / "metrics.json").read_text(encoding="utf-8"))
                cells = " | ".join(f"{scores[f'eval_{column}']:.4g}" for column in COLUMNS)
                print(f"| {title} | {answers} | {against} | {cells} | {took[title]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
