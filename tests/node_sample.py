"""The program of sample/plugins/node, in a copy outside the tree with its packages and the installed protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[1] / "sample" / "plugins" / "node"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")
QUICK = ("--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def done(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command that ended."""
    there = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(command, cwd=folder, env=there, capture_output=True, text=True, check=False, timeout=300)


@cache
def installed(within: Path) -> Path:
    """The folder, made once in another; without Node.js or its registry the test is skipped."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    version = done(["node", "--version"], SAMPLE).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"node is {version}; the sample needs version 20 or later")
    copy = within / "my plugins"
    shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("node_modules", "protos"))
    packages = done(["npm", "ci", *QUICK], copy)
    if packages.returncode and any(word in packages.stderr for word in NO_NETWORK):
        pytest.skip("npm cannot reach its registry")
    assert packages.returncode == 0, packages.stderr
    copied = done(["npm", "run", "protos"], copy)
    assert copied.returncode == 0, copied.stderr
    return copy
