"""`deepgen run SCENE [--num_ranks N] [--name value …]`: checks the scene, then runs it in N ranks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ...kernel.check import check
from ...kernel.descriptors import summary
from ...kernel.errors import UserError
from ...kernel.launcher import launch
from ...kernel.options import options_of
from ...kernel.run import RunSettings
from ...kernel.scene import Scene
from ...kernel.schemas import option_message
from ...kernel.settings import KERNEL, load
from ...kernel.stand_ins.loading import let_go
from .check import split
from .devices import count_gpus
from .plugins import option_lines

USAGE = "usage: deepgen run SCENE [--num_ranks N] [--name value …]"


def help_text(arguments: Sequence[str]) -> str:
    """The settings of the kernel by what they are about and, when a scene is named, those of its plugins."""
    lines = [USAGE, "", "SCENE is a name (`deepgen scenes`), a scene file, or a model folder that is to predict."]
    for owner in KERNEL:
        lines += ["", f"{summary(owner)}", ""]
        for option in options_of(owner, "kernel"):
            lines += option_lines(option_message(option))
    reference, tokens = split(arguments)
    if reference is None:
        return "\n".join([*lines, "", "`deepgen run SCENE --help` also lists the options of the plugins of a scene."])
    declared_by = ""
    for value in load(reference, tokens).values.values():
        if value.option.declared_by == "kernel":
            continue
        if value.option.declared_by != declared_by:
            declared_by = value.option.declared_by
            lines += ["", f"Options of {declared_by}", ""]
        lines += option_lines(option_message(value.option))
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Runs a scene and gives the exit code of its ranks."""
    reference, tokens = split(arguments)
    if reference is None:
        raise UserError(f"no scene is named; {USAGE}")
    return start(load(reference, tokens), reference, tokens)


def start(scene: Scene, reference: str, tokens: Sequence[str]) -> int:
    """Checks a resolved scene and hands it to the launcher, whose ranks resolve it again by themselves."""
    for note in check(scene):
        if note not in scene.notes:  # those the run tells by itself
            print(f"note: {note}", file=sys.stderr)
    let_go()
    ranks = scene.read(RunSettings).num_ranks or count_gpus() or 1
    return launch(reference, tokens, ranks)
