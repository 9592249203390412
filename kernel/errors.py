"""Every error that DeepGen raises on purpose.

    DeepgenError                a run or a command cannot go on
    ├── UserError               the user can mend it: one line, exit code 2, never a traceback
    │   ├── SceneError          a setting, a header or a scene file
    │   ├── PluginError         a plugin is missing, broken or named twice
    │   │   ├── NoPlugin        the one of a kind and name: missing, or cannot be imported
    │   │   └── PluginFailed    a processor raised something of its own; a log tells where
    │   └── DataError           a file or a row of it
    └── RunError                the run failed: one line with the cause, exit code 1
        └── Interrupted         Ctrl-C or SIGTERM: exit code 130

A message says what was given, where, and what would be right.
"""

import difflib
from collections.abc import Iterable


class DeepgenError(Exception):
    """A run or a command cannot go on; `exit_code` is what the process ends with."""

    exit_code = 1


class UserError(DeepgenError):
    """A mistake that the user can mend."""

    exit_code = 2


class SceneError(UserError):
    """A setting, a header or a scene file is wrong."""


class PluginError(UserError):
    """A plugin is missing, broken or named twice."""


class NoPlugin(PluginError):
    """A plugin is not there, or not with what it imports."""

    def __init__(self, message: str, plugin: str = "") -> None:
        """`plugin` is its title, such as "metric 'acc'"."""
        super().__init__(message)
        self.plugin = plugin


class PluginFailed(PluginError):
    """A processor raised something of its own."""

    def __init__(self, message: str, rank: int | None = None) -> None:
        """`rank` is the one whose log has the traceback; None where none has it yet."""
        super().__init__(message)
        self.rank = rank


class DataError(UserError):
    """A file is missing or unreadable, or a row of it does not fit the header."""


class RunError(DeepgenError):
    """The run failed through no mistake in the scene."""


class Interrupted(RunError):
    """Ctrl-C or SIGTERM stopped the run."""

    exit_code = 130


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `known`, or the longest in it; or an empty string."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    near = near or sorted((name for name in names if len(name) > 3 and name in given), key=len)[-1:]
    return f"; did you mean '{near[0]}'?" if near else ""


def first_line(error: BaseException) -> str:
    """What a library says, without what it says below; or the kind of its error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
