"""A plugin that fails or does not give what it declares ends the run, which names it, wherever the plugin is."""

from pathlib import Path

from .conftest import Deepgen, Finished, at_once

PLUGIN = '''
from dataclasses import dataclass
from deepgen.kernel.contracts import Field, Metric, Processor
from deepgen.kernel.registry import metric, processor

@processor("broken_words")
@dataclass
class BrokenWords(Processor):
    """Ends the program."""

    def fields(self):
        return (Field("input_ids", "int64", "ragged", mask="attention_mask", length=True),)

    def process(self, columns):
        raise SystemExit(0)

@metric("broken")
@dataclass
class Broken(Metric):
    """Breaks the contract."""
    fits = frozenset({"single_label_classification"})
    fault: str = ""
    """What it does."""

    def keys(self):
        return ("broken",)

    def update(self, predictions):
        if self.fault == "raise":
            raise ValueError("no such score")
        return {"scores": predictions.scores}

    def compute(self, state, class_names=()):
        return {"brokn": 1.0}
'''


def test_the_metric_is_named(place: Path, deepgen: Deepgen, classifier: Finished) -> None:
    (place / "broken.py").write_text(PLUGIN)
    evaluate = ("run", classifier.model, "--do_predict", "false", "--do_eval", "true", "--eval_dir", "eval.tsv")
    given = ("--eval_metrics", "acc,broken", "--num_ranks", "1", "--tracking", "false")
    program = "exec:deepgen plugin serve broken.py"
    ways = (("broken.py", "raise", 1), (program, "raise", 1), ("broken.py", "", 2))
    found = at_once(
        lambda *words: deepgen(*words[1:], exits=int(words[0])),
        *(
            [str(code), *evaluate, *given, "--plugin", plugin, "--fault", fault, "--output_dir", f"out{number}"]
            for number, (plugin, fault, code) in enumerate(ways)
        ),
    )
    last = [done.stderr.splitlines()[-1] for done in found]
    for number in (0, 1):
        assert last[number].startswith("deepgen: metric 'broken' failed: ValueError: no such score; the whole story is")
        log = (place / f"out{number}" / "log" / "rank_0.log").read_text()
        assert 'broken.py", line' in log, "where in the plugin it was"
    assert last[2] == "deepgen: metric 'broken' did not give 'broken', which it declares; it gave brokn"


def test_the_processor_is_named_and_the_log_of_the_rank_that_met_it(place: Path, deepgen: Deepgen) -> None:
    (place / "broken.py").write_text(PLUGIN)
    header = "broken_words:text:input_ids,convert2int:label:labels"
    run = ("run", "sentiment.yaml", "--train_model_header", header, "--tracking", "false")
    ways = (("2", "broken.py"), ("1", "exec:deepgen plugin serve broken.py"))
    found = at_once(
        lambda *words: deepgen(*words, exits=2),
        *([*run, "--num_ranks", ranks, "--plugin", plugin, "--output_dir", ranks] for ranks, plugin in ways),
    )
    for done, (ranks, _) in zip(found, ways, strict=True):
        log = place / ranks / "log" / "rank_0.log"
        words = "processor 'broken_words' failed on train.tsv:1 to 203: SystemExit: 0; the whole story is in"
        assert done.stderr.splitlines()[-1] == f"deepgen: {words} {log}"
        assert 'broken.py", line' in log.read_text(), "where in the plugin it was"
