"""Every processor, metric and outputter of the tree passes the suite, as a class and over its socket."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from deepgen.controller.cli import main
from deepgen.kernel import registry

KINDS = ("processor", "metric", "outputter")
WORDS = [f"{kind}:{name}" for kind in KINDS for name in sorted(registry.names(kind))]


@pytest.mark.parametrize(("over", "least"), [("process", 30), ("wire", 80)])
def test_every_plugin_of_the_tree_passes(over: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plugin", "check", *WORDS, "--quick", "--over", over, "-o", "json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one for one in found if one["result"] == "failed"] == []
    assert code == 0
    assert {one["plugin"] for one in found} - {""} == {word.replace(":", " ") for word in WORDS}
    passed = Counter(one["check"] for one in found if one["result"] == "passed")
    assert len(passed) >= least
    # rows were found for each of them
    for kind in KINDS:
        of_kind = sum(word.startswith(kind) for word in WORDS)
        assert passed[f"{kind}.split_invariance"] == of_kind
    # 10,000 batches each in this process, and 10,000 over the wire
    assert (passed["leak.batches"], passed["leak.calls"]) == ((len(WORDS), 0) if over == "process" else (0, 1))
