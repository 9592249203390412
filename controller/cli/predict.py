"""`deepgen predict --from FOLDER --predict_dir FILE [--name value …]`: predicts with the folder of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...kernel.errors import UserError
from ...kernel.record import SCENE_FILE
from ...kernel.settings import load, model_folder
from .run import start

USAGE = "usage: deepgen predict --from FOLDER --predict_dir FILE [--result_file FILE] [--num_ranks N] [--name value …]"


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen predict --help` prints."""
    return (
        f"{USAGE}\n\n"
        "FOLDER is a run folder or the model folder in it; nothing else of the run is needed.\n"
        "The result is written to --result_file, or to the run folder that is made for the prediction.\n"
        "`deepgen run FOLDER --help` lists all settings."
    )


def main(arguments: Sequence[str]) -> int:
    """Predicts a file with a finished model."""
    given, tokens = _split(arguments)
    folder = model_folder(given)
    if folder is None:
        there = Path(given).expanduser().is_dir()
        problem = f"no {SCENE_FILE} beside a config.json in it" if there else "no such folder"
        raise UserError(f"--from {given}: {problem}; give the model folder of a finished run")
    scene = load(str(folder), tokens)
    if scene.values["predict_dir"].origin.kind != "command line":
        raise UserError(f"--predict_dir is missing; say which file to predict. {USAGE}")
    return start(scene, str(folder), tokens)


def _split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The value of `--from` and the other tokens; a result file is relative to the working folder here."""
    given = None
    tokens: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--from", "--result_file"):
            tokens.append(word)
            continue
        if not (value := value if equals else next(words, "")):
            raise UserError(f"{name} has no value; {USAGE}")
        if name == "--from":
            given = value
        else:
            tokens += ["--result_file", str(Path(value).expanduser().absolute())]
    if given is None:
        raise UserError(f"--from is missing; say which model folder predicts. {USAGE}")
    return given, tokens
