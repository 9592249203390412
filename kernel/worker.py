"""One rank of a run: `python -m deepgen.kernel.worker --scene SCENE [--name value …]`, alone or under a launcher.

Under the DeepSpeed launcher: `deepspeed --num_gpus 2 --module deepgen.kernel.worker --scene SCENE`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from .errors import DeepgenError, Interrupted, RunError, SceneError, UserError
from .terminal import Terminal

ROOM = 4096
"""Bytes that are kept on the disk for the words a rank ends with."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs this rank's part and returns its exit code; a supervisor finds its beginning and its end on record."""
    if "DEEPGEN_DEVICES" in os.environ:  # before torch looks
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["DEEPGEN_DEVICES"]
    rank = int(os.environ.get("RANK", "0"))
    terminal = Terminal(rank)
    attempt = Path(os.environ.get("DEEPGEN_ATTEMPT") or os.devnull)
    if not attempt.is_dir():
        return _main(argv, rank, terminal)
    _begin(attempt, rank)
    code = _main(argv, rank, terminal)
    if code == 0:
        _end(attempt, rank, "done", "")
    else:
        with contextlib.suppress(OSError):  # the error itself is on record, for which there is room
            _leave(attempt, f"rank_{rank}.code", f"{code}\n")
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
    attempt = os.environ.get("DEEPGEN_ATTEMPT")
    if attempt and Path(attempt).is_dir():
        _end(Path(attempt), rank, "error", message + "\n")
    elif rank == 0:
        terminal.say(f"deepgen: {message}")


def _begin(attempt: Path, rank: int) -> None:
    """Says which process the rank is, since a pid alone could be another's later; takes room for how it will end."""
    handle = os.open(attempt / f".rank_{rank}.end", os.O_WRONLY | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        os.posix_fallocate(handle, 0, ROOM)
    os.close(handle)
    stat = Path("/proc/self/stat")
    if stat.exists():
        start_time = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        me = {"pid": os.getpid(), "start_time": start_time, "boot_id": boot}
        _leave(attempt, f"rank_{rank}.pid", json.dumps(me) + "\n")


def _end(attempt: Path, rank: int, kind: str, text: str) -> None:
    """Writes rank_N.done or rank_N.error, in the room that was taken before: a full disk does not lose it."""
    aside = attempt / f".rank_{rank}.end"
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600)
    written = os.write(handle, text.encode()[:ROOM])
    os.ftruncate(handle, written)
    os.close(handle)
    aside.rename(attempt / f"rank_{rank}.{kind}")


def _leave(attempt: Path, name: str, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    aside = attempt / f".{name}.{time.time_ns()}"
    aside.write_text(text, encoding="utf-8")
    aside.rename(attempt / name)


def _see(terminal: Terminal) -> str:
    return f"; the whole story is in {terminal.log}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Libraries leave threads and process groups behind whose ends can hang or talk; the run is over and recorded.
    os._exit(code)
