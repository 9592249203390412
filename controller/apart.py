"""Checks a scene that has plugin files in a process of its own: their code is not run in the controller.

The controller starts `python -m deepgen.controller.apart`, which reads one JSON object and writes one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..kernel.errors import UserError
from .refusals import Refusal

SECONDS = 30.0
"""For the check, the import of the plugins included."""
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "HF_HOME", "LD_LIBRARY_PATH")
"""Of the environment: no token of the server's reaches a plugin."""


def examine(reference: str, tokens: Sequence[str], plugins: Sequence[Path], roots: Any) -> tuple[str, str, list[str]]:
    """(name, resolved text, notes) of a scene.

    Raises:
        Refusal, UserError: the scene or a plugin is wrong, or the check took too long.
    """
    asked = {"reference": reference, "tokens": list(tokens), "roots": [str(root) for root in roots.readable()]}
    with subprocess.Popen(
        [sys.executable, "-m", "deepgen.controller.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _PASSED if name in os.environ},
        start_new_session=True,
    ) as process:
        try:
            written, _ = process.communicate(json.dumps(asked).encode(), SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # ours, and not waited for yet: the number is its own
            raise _failed(plugins, f"took more than {SECONDS:g} seconds") from None
    try:
        answer = json.loads(written.splitlines()[-1])
    except (IndexError, ValueError):
        raise _failed(plugins, f"ended without an answer, with code {process.returncode}") from None
    if "error" in answer:
        raise Refusal(answer["code"], answer["error"], reason=answer["reason"])
    return answer["name"], answer["text"], answer["notes"]


def _failed(plugins: Sequence[Path], how: str) -> UserError:
    names = ", ".join(path.name for path in plugins)
    return UserError(f"the check of this scene {how}; look at what {names} does when it is imported")


def main() -> int:
    """The process: one scene from standard input."""
    from ..kernel.check import check
    from ..kernel.record import resolved_text
    from ..kernel.settings import load
    from .paths import check_inside

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a plugin prints is no answer
    asked = json.load(sys.stdin)
    try:
        scene = load(asked["reference"], asked["tokens"])
        check_inside(scene, tuple(Path(root) for root in asked["roots"]))
        answer: dict[str, Any] = {"notes": check(scene), "name": scene.name, "text": resolved_text(scene)}
    except Refusal as error:
        answer = {"error": str(error), "code": error.code, "reason": error.reason}
    except UserError as error:
        answer = {"error": str(error), "code": "INVALID_ARGUMENT", "reason": type(error).__name__}
    answers.write("\n" + json.dumps(answer) + "\n")
    answers.flush()
    os._exit(0)  # a plugin's own thread does not keep us


if __name__ == "__main__":
    main()
