"""How much the cache of `unilm` saves: texts generated with it and without, in turns, and whether they are the same.

    python benchmarks/unilm_cache.py [--lengths 16 64] [--rounds 3] [--beams 1] [--attention sdpa]

A BERT of 4 layers x 256 with new weights generates texts of just so many tokens from 16 sources of 12 to 48 tokens.
Each round times both sides one after the other; a ratio is that of a round, and the median of the rounds is printed
with the range. Other programs on the machine change the ratio of CPU time less. Exit code 1 where a token differs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from deepgen.kernel.hugging_face import quiet_transformers
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.registry import find

SIZES = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
ROWS, SHORTEST, LONGEST = 16, 12, 48


def made(folder: Path, attention: str) -> Any:
    """The module, with new weights; what it writes has no sense, and takes as long."""
    letters = [chr(97 + number) + chr(97 + other) for number in range(26) for other in range(26)]
    config = {"model_type": "bert", **SIZES, "vocab_size": 8000, "tokenizer": {"model": "word_level"}}
    (folder / "bert.json").write_text(json.dumps(config))
    settings = PretrainedSettings(model=f"scratch:{folder / 'bert.json'}", attn_implementation=attention)
    model: Any = find("model", "unilm").plugin()
    torch.manual_seed(1)
    return model.build(Pretrained(settings, lambda: letters), None).eval()


def sources() -> dict[str, torch.Tensor]:
    """Rows of unequal length, padded."""
    draw = random.Random(1)
    lengths = [draw.randint(SHORTEST, LONGEST) for _ in range(ROWS)]
    mask = torch.tensor([[int(at < length) for at in range(max(lengths))] for length in lengths])
    return {"input_ids": torch.randint(10, 8000, mask.shape) * mask, "attention_mask": mask}


def timed(
    module: Any, given: dict[str, torch.Tensor], length: int, beams: int, cached: bool
) -> tuple[Any, float, float]:
    """The tokens, seconds and CPU seconds."""
    began, busy = time.perf_counter(), time.process_time()
    tokens = module.generate(**given, max_new_tokens=length, min_new_tokens=length, num_beams=beams, use_cache=cached)
    return tokens, time.perf_counter() - began, time.process_time() - busy


def main() -> int:
    """Prints a line a length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    options = parser.parse_args()
    quiet_transformers()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        module = made(Path(folder), options.attention)
    given, same = sources(), True
    timed(module, given, 4, options.beams, True)
    for length in options.lengths:
        wall, busy = [], []
        for _ in range(options.rounds):
            (tokens, seconds, cpu), (others, more, more_cpu) = (
                timed(module, given, length, options.beams, cached) for cached in (True, False)
            )
            same &= torch.equal(tokens, others)
            wall.append(more / seconds)
            busy.append(more_cpu / cpu)
        print(
            f"{length} tokens, {options.beams} beams: without the cache {statistics.median(wall):.1f} times the time "
            f"({min(wall):.1f}-{max(wall):.1f}), {statistics.median(busy):.1f} times the CPU time "
            f"({min(busy):.1f}-{max(busy):.1f}); {'the same tokens' if same else 'OTHER TOKENS'}",
            flush=True,
        )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
