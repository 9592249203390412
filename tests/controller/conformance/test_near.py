"""A plugin class in the process of the suite: what it does there is an outcome, and never the suite's own end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepgen.controller.cli import main

QUITTING = Path(__file__).with_name("quitting_plugins.py")
LACKING = Path(__file__).with_name("lacking_plugin.py")
NO_DESCRIPTION = """
import sys
from dataclasses import dataclass

from deepgen.kernel.contracts import Processor
from deepgen.kernel.registry import processor


@processor("says_nothing")
@dataclass
class SaysNothing(Processor):
    def fields(self):
        {}

    def process(self, columns):
        return {{}}
"""


def test_a_plugin_that_ends_the_process_fails_its_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "check", str(QUITTING), "--over", "process", "--quick", "-o", "json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    came = {(one["plugin"], one["check"]): one.get("came") for one in found if one["result"] == "failed"}
    assert came["processor quits", "processor.split_invariance"] == "SystemExit: 0"
    assert came["processor quits", "leak.batches"] == "SystemExit: 0"
    assert came["processor quits_later", "configure.defaults"] == "SystemExit: 0"
    assert came["processor panics", "processor.odd_texts"] == "Panic: index out of bounds"
    assert came["metric quits", "metric.no_rows"] == "SystemExit: 3"
    assert came["outputter quits", "commit.file"] == "SystemExit: 0"
    assert {one["plugin"] for one in found} >= {"processor panics", "metric quits", "outputter quits"}


@pytest.mark.parametrize("over", ["process", "wire", "both"])
@pytest.mark.parametrize(
    ("ends", "says"), [("sys.exit(0)", "SystemExit: 0"), ("raise ValueError('two\\nlines')", "ValueError: two lines")]
)
def test_a_plugin_that_cannot_describe_itself_is_one_line(
    ends: str, says: str, over: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plugin.py"
    file.write_text(NO_DESCRIPTION.format(ends))
    assert main(["plugin", "check", str(file), "--over", over]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"deepgen: processor 'says_nothing' of {file} cannot say what it is: {says}\n"


@pytest.mark.parametrize("over", ["process", "wire"])
def test_a_value_too_few_is_said_in_the_words_of_a_run(over: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plugin", "check", str(LACKING), "--over", over, "--only", "processor", "--quick", "-o", "json"]
    assert main(words) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    came = {one["plugin"]: one["came"] for one in found if one["check"] == "processor.fields"}
    told = "PluginError: processor 'lacks_one' gave 23 values of 'labels' for 24 rows"
    assert came == {"processor lacks_one": told}


def test_ctrl_c_ends_the_suite(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "plugin.py"
    file.write_text(QUITTING.read_text().replace("sys.exit(0)", "raise KeyboardInterrupt"))
    assert main(["plugin", "check", str(file), "--over", "process", "--only", "processor"]) == 130
