"""The limits: bare loops over the same engine, the same model and ready batches (features.py has the tokenizer).

python benchmarks/bare.py train|predict|generate [--bf16] [--seed N]      # starts its two ranks itself
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from measure import HERE, WARM_UP, run, tell

from deepgen.kernel.batches import BatchSettings, EvalBatches, MicroBatch, TrainBatches
from deepgen.kernel.contracts import Batch
from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.features import Features, prepare
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.scene import Scene, Split
from deepgen.kernel.settings import load
from deepgen.kernel.training import Optimization, seed_rank


class Bare:
    """One rank with the model, the features and the engine of a scene, as a run has them."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene, self.seed = scene, seed
        self.engine = Engine.start(scene.read(EngineSettings))
        # as a run chooses it, see kernel/phases.py
        bf16 = str(self.engine.dtype) == "torch.bfloat16"
        self.pretrained = Pretrained(scene.read(PretrainedSettings), attention="eager" if bf16 else None)
        self.padding = replace(self.pretrained.padding, multiple=4 if bf16 else 1, longest=self.pretrained.positions)
        self.settings = scene.read(BatchSettings)

    def features(self, split: Split) -> Features:
        """From the cache, where a run before this one has left them."""
        engine = self.engine
        return prepare(
            self.scene,
            split,
            self.pretrained,
            rank=engine.rank,
            ranks=engine.ranks,
            barrier=engine.barrier,
        )

    def train(self) -> None:
        """Steps by turns: forward, backward and step on a ready batch, and ours, which also makes its batch."""
        features, engine, model = self.features("train"), self.engine, self.scene.model
        batches = TrainBatches(
            features, self.padding, self.settings, ranks=engine.ranks, rank=engine.rank, seed=self.seed
        )
        order = batches.order(0)
        seed_rank(self.seed)
        module = model.build(self.pretrained, features.labels)
        per_device = self.settings.per_device_train_batch_size
        engine.prepare(module, Optimization(), total_steps=2 * len(order), per_device=per_device, accumulation=1)
        deepspeed: Any = engine._engine
        module.train()

        def bare(micro: MicroBatch) -> None:
            deepspeed.backward(deepspeed(**micro.batch).loss)
            deepspeed.step()

        def ours(rows: np.ndarray) -> None:
            engine.train_step(batches._micro_batches(rows), model.loss, model.count)

        spent: list[list[tuple[float, float]]] = []
        for step, rows in enumerate(order):
            (ready,) = batches._micro_batches(rows)
            turns: list[Callable[[], None]] = [partial(bare, ready), partial(ours, rows)]
            taken = [measured(turn) for turn in (turns if step % 2 else turns[::-1])]
            spent.append(taken if step % 2 else taken[::-1])
        counted = np.array(spent[int(WARM_UP * len(spent)) :])  # [steps, (bare, ours), (clock, CPU)]
        if engine.rank == 0:
            ratio, ratio_cpu = np.median(counted[:, 0] / counted[:, 1], axis=0)
            bare_speed, speed = batches.global_batch / counted[:, :, 0].mean(axis=0)
            tell(train_rows_s=bare_speed, own_rows_s=speed, ratio=ratio, ratio_cpu=ratio_cpu)

    def predict(self, **generation: int) -> None:
        """Answers for every row, in batches of like length; with settings of generation, by `generate`."""
        import torch

        features, engine = self.features("predict"), self.engine
        ready = list(EvalBatches(features, self.padding, self.settings, engine.ranks, engine.rank))
        module: Any = self.scene.model.build(self.pretrained, None)
        engine.place(module)

        def answer(batch: Batch) -> Any:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            return module.generate(**inputs, **generation) if generation else module(**inputs).logits

        with torch.no_grad():
            if not generation:  # a run has trained before, on such batches of 16, and is warm
                for batch, _ in ready:
                    answer({name: value[:16] for name, value in batch.items()})
            engine.barrier()
            begin = time.time()
            answers = [answer(batch) for batch, _ in ready]
        engine.barrier()
        if engine.rank == 0:
            tell(predict=(begin, time.time(), len(features)), width=max(answer.shape[1] for answer in answers))


def measured(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds and CPU seconds of this process that some work takes."""
    begin = time.time(), time.process_time()
    work()
    return time.time() - begin[0], time.process_time() - begin[1]


def main() -> None:
    """One measurement: a parent that starts the ranks, or a rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["train", "predict", "generate"])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    if "RANK" not in os.environ:
        print(run([sys.executable, *sys.argv], ranks=2).said())
        return
    name = "generate" if given.task == "generate" else "classify"
    scene = load(str(HERE / "scenes" / f"{name}.yaml"), ["--bf16", str(given.bf16).lower()])
    bare = Bare(scene, given.seed)
    if given.task == "train":
        bare.train()
    elif given.task == "predict":
        bare.predict()
    else:
        bare.predict(num_beams=4, max_new_tokens=32)


if __name__ == "__main__":
    main()
    os._exit(0)  # process groups of libraries may hang at the end
