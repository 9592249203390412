"""What a rank prints, and where it ends up: in its run's log, or in the file that the controller's launcher gave it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RANK = """
import os, sys
from pathlib import Path
from deepgen.kernel.terminal import Terminal
terminal = Terminal(0)
print("early", flush=True)
terminal.move_log(Path(sys.argv[1]) / "log" / "rank_0.log")
os.write(2, b"from a library\\n")
terminal.say("for the person")
terminal.close()
"""


@pytest.mark.parametrize("attempt", [False, True])
def test_who_gets_what(tmp_path: Path, attempt: bool) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    if attempt:
        environment["DEEPGEN_ATTEMPT_ID"] = "u-1"
    with (tmp_path / "out").open("w") as out:
        command = [sys.executable, "-c", RANK, str(tmp_path / "run")]
        subprocess.run(command, stdout=out, stderr=out, env=environment, check=True)
    log = (tmp_path / "run" / "log" / "rank_0.log").read_text(encoding="utf-8")
    said = (tmp_path / "out").read_text(encoding="utf-8")
    if attempt:
        assert said == log == "early\nfrom a library\nfor the person\n"
    else:
        assert (log, said) == ("early\nfrom a library\n", "for the person\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
