"""One rank of a run: `python -m deepgen.kernel.worker --scene SCENE [--name value …]`, alone or under a launcher.

Under the DeepSpeed launcher: `deepspeed --num_gpus 2 --module deepgen.kernel.worker --scene SCENE`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from . import attempt
from .errors import DeepgenError, Interrupted, PluginFailed, RunError, SceneError, UserError
from .stand_ins.loading import let_go
from .terminal import Terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this rank's part and returns its exit code; a supervisor finds its beginning and its end on record."""
    if "DEEPGEN_DEVICES" in os.environ:  # before torch looks
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["DEEPGEN_DEVICES"]
    rank = int(os.environ.get("RANK", "0"))
    terminal = Terminal(rank)
    folder = attempt.folder()
    if folder is None:
        return _main(argv, rank, terminal)
    attempt.begin(folder, rank)
    code = _main(argv, rank, terminal)
    if code == 0:
        attempt.done(folder, rank)
    else:
        attempt.code(folder, rank, code)
    return code


def _main(argv: Sequence[str] | None, rank: int, terminal: Terminal) -> int:
    try:
        reference, tokens = _arguments(sys.argv[1:] if argv is None else argv)
        from . import check, run, settings

        scene = settings.load(reference, tokens)
        if "DEEPGEN_LAUNCHER" not in os.environ:
            check.check(scene)
        run.run(scene, terminal)
        return 0
    except Interrupted as error:
        _report(str(error), rank, terminal)
        return error.exit_code
    except PluginFailed as error:
        if error.rank is None:
            traceback.print_exc()
        _report(f"{error}{_see(terminal, error.rank)}", rank, terminal)
        return error.exit_code
    except UserError as error:
        _report(str(error), rank, terminal)
        return error.exit_code
    except RunError as error:
        traceback.print_exc()
        _report(f"{error}{_see(terminal)}", rank, terminal)
        return error.exit_code
    except DeepgenError as error:
        _report(str(error), rank, terminal)
        return error.exit_code
    except KeyboardInterrupt:
        _report("stopped before there was anything to keep", rank, terminal)
        return Interrupted.exit_code
    except BaseException as error:
        traceback.print_exc()
        _report(f"rank {rank} failed: {_first_line(error)}{_see(terminal)}", rank, terminal)
        return 1
    finally:
        let_go()
        terminal.close()


def _arguments(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The scene and the settings; `--local_rank` is what the DeepSpeed launcher adds."""
    reference = None
    tokens: list[str] = []
    rest = iter(argv)
    for token in rest:
        name, equals, value = token.partition("=")
        if name == "--local_rank":
            os.environ.setdefault("LOCAL_RANK", value if equals else next(rest, "0"))
        elif name == "--scene":
            reference = value if equals else next(rest, None)
        else:
            tokens.append(token)
    if reference is None:
        raise SceneError("--scene is missing; say which scene to run, as in --scene sentiment")
    return reference, tokens


def _report(message: str, rank: int, terminal: Terminal) -> None:
    """Leaves the cause for the launcher, which prints the first one; without it, the rank says so itself."""
    if (folder := attempt.folder()) is not None:
        attempt.failed(folder, rank, message)
    elif rank == 0:
        terminal.say(f"deepgen: {message}")


def _see(terminal: Terminal, rank: int | None = None) -> str:
    """Where more is said: the log of this rank, or of another one."""
    log = terminal.log if rank is None else terminal.log.with_name(f"rank_{rank}.log")
    return f"; the whole story is in {log}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Libraries leave threads and process groups behind whose ends can hang or talk; the run is over and recorded.
    os._exit(code)
