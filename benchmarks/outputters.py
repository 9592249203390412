"""What `outputter_num_workers` brings: rows of predictions formatted beside a model that takes its time, or between.

    python benchmarks/outputters.py [--batches 60]

The model is a wait of 20 ms a batch, as for a GPU that needs no core; three outputters are of the tree, one takes
1 ms a row in Python. Rows/s with 0, 1 and 2 workers, the start of the workers left out; how long that takes is said.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import tell

from deepgen.kernel import registry
from deepgen.kernel.contracts import Outputter, Predictions
from deepgen.kernel.formatting import Workers
from deepgen.kernel.results import ResultFile

ROWS = 64
HEAVY = '''
"""An outputter that computes a while for each row."""
import time
from dataclasses import dataclass
from deepgen.kernel.contracts import Outputter
from deepgen.kernel.registry import outputter

@outputter("heavy")
@dataclass
class Heavy(Outputter):
    """A millisecond of Python a row."""
    fits = frozenset({"text"})

    def columns(self, problem, result_columns):
        return ("text",)

    def format(self, predictions):
        made = []
        for texts in predictions.texts:
            end = time.thread_time() + 0.001
            while time.thread_time() < end:
                pass
            made.append(texts[0] + "\\n")
        return made
'''


def classes(first: int) -> Predictions:
    """Scores of 100 classes."""
    scores = np.random.default_rng(first).normal(size=(ROWS, 100)).astype(np.float32)
    return Predictions(np.arange(first, first + ROWS), "single_label_classification", scores=scores)


def vectors(first: int) -> Predictions:
    """Vectors of 384 numbers."""
    made = np.random.default_rng(first).normal(size=(ROWS, 384)).astype(np.float32)
    return Predictions(np.arange(first, first + ROWS), "embedding", vectors={"q": made})


def texts(first: int) -> Predictions:
    """Four texts of thirty words a row."""
    return Predictions(np.arange(first, first + ROWS), "text", texts=[["some word " * 15] * 4] * ROWS)


CASES: dict[str, Callable[[int], Predictions]] = {
    "score": classes,
    "embedding": vectors,
    "generation": texts,
    "heavy": texts,
}


def speed(outputter: Outputter, make: Callable[[int], Predictions], plugin: str, count: int, batches: int) -> float:
    """Rows per second of `batches` batches, and what the workers needed to start is not counted."""
    workers = Workers(outputter, [plugin], count) if count else None
    with tempfile.TemporaryDirectory() as folder:
        with ResultFile(Path(folder) / "predict.txt", outputter, 0, 1, workers=workers) as result:
            for warm in range(4):  # each worker has answered
                result.write(make(warm * ROWS))
            if workers is not None:
                for future in list(workers._waiting):
                    future.result()
            begin = time.perf_counter()
            for number in range(4, 4 + batches):
                predictions = make(number * ROWS)
                time.sleep(0.02)
                result.write(predictions)
            result.commit(lambda item: [item], lambda: None)
            return batches * ROWS / (time.perf_counter() - begin)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=60)
    batches = parser.parse_args().batches
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "heavy.py"
        plugin.write_text(HEAVY, encoding="utf-8")
        registry.load_file(str(plugin))
        score: Outputter = registry.find("outputter", "score").plugin()  # type: ignore[assignment]
        begin = time.perf_counter()
        workers = Workers(score, [], 1)
        for _ in [*workers.put(classes(0)), *workers.finish()]:
            print(f"the first answer of a worker after {time.perf_counter() - begin:.2f} s")
        print(f"{'rows/s':>12} {'0':>8} {'1':>8} {'2':>8}")
        for name, make in CASES.items():
            outputter: Outputter = registry.find("outputter", name).plugin()  # type: ignore[assignment]
            found = [speed(outputter, make, str(plugin), count, batches) for count in (0, 1, 2)]
            print(f"{name:>12} " + " ".join(f"{one:8.0f}" for one in found), flush=True)
            tell(outputter=name, rows_s=found)


if __name__ == "__main__":
    main()
