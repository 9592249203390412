"""`deepgen predict --from FOLDER [--predict_dir FILE] [--name value …]`: predicts with the folder of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...kernel.errors import UserError
from ...kernel.settings import finished_model, load
from .run import start

USAGE = (
    "usage: deepgen predict --from FOLDER [--predict_dir FILE] [--result_file FILE] [--num_ranks N] [--name value …]"
)


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen predict --help` prints."""
    return (
        f"{USAGE}\n\n"
        "FOLDER is a run folder or the model folder in it; nothing else of the run is needed.\n"
        "The result is written to --result_file, or to the run folder that is made for the prediction.\n"
        "Without --predict_dir, or with `-` for it, rows are read from standard input, one a line, and answered on\n"
        "standard output at once and in order: `… | deepgen predict --from FOLDER --predict_header text`.\n"
        "`deepgen run FOLDER --help` lists all settings."
    )


def main(arguments: Sequence[str]) -> int:
    """Predicts a file with a finished model, or answers rows of standard input."""
    given, tokens = _split(arguments)
    folder = finished_model(given, "--from")
    scene = load(str(folder), tokens)
    if scene.values["predict_dir"].origin.kind != "command line":
        from ...kernel.pipe import answer

        return answer(scene)
    return start(scene, str(folder), tokens)


def _split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The value of `--from` and the other tokens; a result file is relative to the working folder here."""
    given = None
    tokens: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--from", "--result_file", "--predict_dir"):
            tokens.append(word)
            continue
        if not (value := value if equals else next(words, "")):
            raise UserError(f"{name} has no value; {USAGE}")
        if name == "--from":
            given = value
        elif name == "--predict_dir":
            tokens += [] if value == "-" else [name, value]
        else:
            tokens += ["--result_file", str(Path(value).expanduser().absolute())]
    if given is None:
        raise UserError(f"--from is missing; say which model folder predicts. {USAGE}")
    return given, tokens
