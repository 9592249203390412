"""Named points at which a test ends the process, as kill -9 does: DEEPGEN_FAULT=NAME, or NAME:3 for the third pass.

With `@FILE` behind it the point is deadly once for all processes: FILE is made then, and shows that it was.
"""

import os
import signal
from itertools import count

_told, _, _once = os.environ.get("DEEPGEN_FAULT", "").partition("@")
_wanted, _, _nth = _told.partition(":")
_passes = count(1)


def point(name: str) -> None:
    """Ends this process by SIGKILL when DEEPGEN_FAULT says so, as it stood at the process's start; else does nothing.

    Passes are counted in each process by itself.
    """
    if name == _wanted and next(_passes) == int(_nth or 1) and _is_the_first():
        os.kill(os.getpid(), signal.SIGKILL)


def _is_the_first() -> bool:
    if _once:
        try:
            os.close(os.open(_once, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
    return True
