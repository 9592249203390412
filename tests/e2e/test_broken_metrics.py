"""A metric that fails or does not give what it declares ends the run, which names it, wherever the metric is."""

from pathlib import Path

from .conftest import Deepgen, Finished, at_once

PLUGIN = '''
from dataclasses import dataclass
from deepgen.kernel.contracts import Metric
from deepgen.kernel.registry import metric

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
