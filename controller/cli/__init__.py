"""The `deepgen` command: one file a subcommand, imported when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from ...kernel.errors import DeepgenError, UserError, did_you_mean

HERE = {
    "run": "train, evaluate and predict what a scene says",
    "predict": "predict a file with the model folder of a finished run",
    "serve-model": "answer rows over gRPC with the model of a finished run",
    "check": "show each setting and where it came from; refuse a scene that cannot run",
    "plugins": "list the plugins, or show the options of one",
    "plugin": "serve plugins to runs of other processes, or check those that are served",
    "scenes": "list the scenes",
    "new": "write a plugin or a scene that works, and its test",
    "ui": "open the MLflow page of the runs",
    "completion": "print a script with which the shell completes commands",
}
JOBS = {
    "serve": "start the controller, which queues jobs and runs them",
    "submit": "give it a scene to run",
    "jobs": "list the jobs, a line each",
    "show": "show all that is known of a job",
    "watch": "print each change of a job, or of all, as it happens",
    "logs": "print what the ranks of a job print",
    "explain": "say why a job waits, and when it is expected to start",
    "suspend": "have a job write a checkpoint and give its slots back",
    "resume": "queue a suspended job again",
    "cancel": "end a job",
    "retry": "queue a job that has ended again",
    "fetch": "bring the files of a job here",
    "tokens": "say who may speak to the controller",
}
COMMANDS = {**HERE, **JOBS}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code: 0; 1 when a run failed; 2 for a user's mistake; 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except DeepgenError as error:
        with suppress(OSError):  # nobody reads it any more
            sys.stdout.flush()  # what was said before comes first, also in a file or pipe
        print(f"deepgen: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; the interpreter must not try to flush to it again.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it is closed with the process
        return 0


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"deepgen {version('deepgen')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        raise UserError(f"no command is called '{name}'{near or '; there are ' + ', '.join(COMMANDS)}")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said by us, in one line
    command = importlib.import_module(f".{name.replace('-', '_')}", __name__)
    if "-h" in rest or "--help" in rest:
        print(command.help_text([word for word in rest if word not in ("-h", "--help")]))
        return 0
    code: int = command.main(rest)
    return code


def _help() -> str:
    lines = ["usage: deepgen COMMAND …"]
    for title, commands in (("runs here:", HERE), ("jobs on a controller:", JOBS)):
        lines += ["", title, *(f"  {name:<13}{summary}" for name, summary in commands.items())]
    return "\n".join([*lines, "", "`deepgen COMMAND --help` tells more; `deepgen run --help` lists all settings."])
