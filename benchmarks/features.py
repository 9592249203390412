"""Features against the raw tokenizer on the same text pairs and cores, and how long a second start takes.

    python benchmarks/features.py [--rounds 5]

The two take turns, so that both meet the same load of the machine; ratios are medians. The raw tokenizer is the Rust
library's `encode_batch_fast` on texts that are in memory already; features are everything from the file to the files of
the cache. CPU time says the same on a machine that others use too.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from pathlib import Path

import data
from measure import tell

from deepgen.kernel.features import prepare
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.scene import Scene
from deepgen.kernel.settings import load

MOST = 128


def scene_of(file: Path, cache: Path) -> Scene:
    """A scene of text pairs."""
    settings = {
        "task": "seq2label",
        "train_dir": file,
        "train_header": "query,doc,labels",
        "train_model_header": "cls_tokenize:query:doc:tokens,convert2int:labels",
        "source_max_length": MOST,
        "cache_dir": cache,
    }
    return load(None, [f"--{name}={value}" for name, value in settings.items()])


def clocks() -> tuple[float, float]:
    """(seconds, CPU seconds) of this process."""
    times = os.times()
    return time.monotonic(), times.user + times.system


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    data.main()
    file = data.WORK / "cls_train.tsv"
    pretrained = Pretrained(PretrainedSettings(model=str(data.WORK / "bert")))
    raw = copy.deepcopy(pretrained.tokenizer.backend_tokenizer)
    raw.enable_truncation(MOST)
    raw.no_padding()
    pairs = [tuple(line.split("\t")[:2]) for line in file.read_text(encoding="utf-8").split("\n") if line]
    wall, cpu, speeds = [], [], []
    print(
        f"{len(pairs)} text pairs of at most {MOST} tokens\n{'raw rows/s':>12} {'features':>10} {'ratio':>6} {'CPU':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            a = clocks()
            raw.encode_batch_fast(pairs)
            b = clocks()
            prepare(scene_of(file, Path(folder) / str(turn)), "train", pretrained)
            c = clocks()
            wall.append((b[0] - a[0]) / (c[0] - b[0]))
            cpu.append((b[1] - a[1]) / (c[1] - b[1]))
            speeds.append((len(pairs) / (b[0] - a[0]), len(pairs) / (c[0] - b[0])))
            print(f"{speeds[-1][0]:12.0f} {speeds[-1][1]:10.0f} {wall[-1]:6.2f} {cpu[-1]:6.2f}", flush=True)
        print(f"{'median':>23} {statistics.median(wall):6.2f} {statistics.median(cpu):6.2f}")
        raw_rate, rate = (statistics.median(side) for side in zip(*speeds, strict=True))
        tell(raw_rows_s=raw_rate, features_rows_s=rate, ratio=statistics.median(wall), ratio_cpu=statistics.median(cpu))
        large = Path(folder) / "large.tsv"
        large.write_text(file.read_text(encoding="utf-8") * 5, encoding="utf-8")
        for start in ("first", "second"):
            scene, begin = scene_of(large, Path(folder) / "large"), time.monotonic()
            made = prepare(scene, "train", Pretrained(PretrainedSettings(model=str(data.WORK / "bert"))))
            print(f"{start} start, {len(made)} rows: {time.monotonic() - begin:.2f} s")


if __name__ == "__main__":
    main()
