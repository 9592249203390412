"""`deepgen predict --from FOLDER --predict_dir FILE [--name value …]`: predicts with the folder of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...kernel.errors import UserError
from ...kernel.record import SCENE_FILE
from ...kernel.settings import load
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
    scene = load(str(folder), tokens)
    if scene.values["predict_dir"].origin.kind != "command line":
        raise UserError(f"--predict_dir is missing; say which file to predict. {USAGE}")
    return start(scene, str(folder), tokens)


def model_folder(given: str) -> Path:
    """The model folder of a run folder, or the folder itself.

    Raises:
        UserError: it is no folder, or holds no finished model.
    """
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(f"--from {given}: no such folder; give the model folder of a finished run")
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file() and (candidate / SCENE_FILE).is_file():
            return candidate.resolve()
    missing = "config.json" if (folder / SCENE_FILE).is_file() else SCENE_FILE
    raise UserError(f"--from {given}: no {missing} in it; give the model folder of a finished run")


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
