"""One row at a time: `load(folder).predict([row])` against the bare model, which take turns in one process.

    python benchmarks/realtime.py FOLDER ROWS [--rounds 200] [--warm 20] [--name value …]

FOLDER is a run folder, ROWS a TSV file whose first column is the text. The bare model is what a few lines of
Transformers would do with the same folder, in the same dtype: tokenize, forward or `generate`, and softmax or decode.
CPU time says the same on a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
import transformers
from measure import tell

from deepgen.kernel.realtime import Predictor, load


def bare(folder: Path, predictor: Predictor) -> Callable[[str], object]:
    """The model without anything around it."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    text = predictor.problem == "text"
    auto: Any = transformers.AutoModelForSeq2SeqLM if text else transformers.AutoModelForSequenceClassification
    dtype = next(predictor._module.parameters()).dtype
    module = auto.from_pretrained(
        folder, dtype=dtype, attn_implementation=predictor._module.config._attn_implementation
    )
    module.eval()

    def classify(row: str) -> object:
        with torch.inference_mode():
            return module(**tokenizer(row, return_tensors="pt")).logits.float().softmax(-1).tolist()

    def generate(row: str) -> object:
        with torch.inference_mode():
            ids = module.generate(**tokenizer(row, return_tensors="pt"))
            return tokenizer.batch_decode(ids, skip_special_tokens=True)

    return generate if text else classify


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long it took, and the CPU time of all threads."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - cpu


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--warm", type=int, default=20)
    given, rest = parser.parse_known_args()
    options = {name.removeprefix("--"): value for name, value in zip(rest[::2], rest[1::2], strict=True)}
    begin = time.perf_counter()
    predictor = load(given.folder, **options)
    column = predictor.source.columns[0]
    print(f"loaded in {time.perf_counter() - begin:.1f} s, {torch.get_num_threads()} threads")
    folder = given.folder / "model" if (given.folder / "model").is_dir() else given.folder
    alone = bare(folder, predictor)
    texts = [line.split("\t")[0] for line in given.rows.read_text(encoding="utf-8").split("\n") if line]
    ours, theirs = list[tuple[float, float]](), list[tuple[float, float]]()
    for number, text in enumerate(islice(cycle(texts), given.warm + given.rounds)):
        pair = [
            (ours, lambda text=text: predictor.predict([{column: text}])),
            (theirs, lambda text=text: alone(text)),
        ]
        for times, work in pair if number % 2 else pair[::-1]:
            taken = seconds(work)
            if number >= given.warm:
                times.append(taken)
    found: dict[str, float] = {}
    print(f"{'ms':>8} {'ours':>8} {'bare':>8} {'ratio':>6}")
    for clock, which in (("", 0), (" CPU", 1)):
        for name, place in (("p50", 49), ("p99", 98)):
            sides = [statistics.quantiles([taken[which] for taken in side], n=100)[place] for side in (ours, theirs)]
            mine, other = (side * 1e3 for side in sides)
            print(f"{name + clock:>8} {mine:8.2f} {other:8.2f} {mine / other:6.2f}")
            found |= {f"{name}{clock}_ms": mine, f"bare {name}{clock}_ms": other, f"ratio {name}{clock}": mine / other}
    tell(**found)


if __name__ == "__main__":
    main()
