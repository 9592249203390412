"""Reads files below a folder that jobs write to, and never anything that a link or `..` in it leads to."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def parts_of(path: str) -> list[str]:
    """The parts of a path with "/" between them.

    Raises:
        ValueError: it is absolute, empty, or has parts such as `..`.
    """
    parts = path.split("/")
    if not path or "\0" in path or len(path) > 4096 or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"path '{path[:200]}' is not a path inside the run folder, such as model/config.json")
    return parts


def open_inside(root: Path, parts: Sequence[str]) -> int:
    """A handle of a regular file below a folder that is ours; no link is followed on the way.

    Raises:
        FileNotFoundError: there is none, or it is a link, a folder, a pipe or the like.
    """
    folder = open_folder(root, parts[:-1])
    try:
        file = os.open(parts[-1], _FILE, dir_fd=folder)
    except OSError as error:
        raise _absent(error) from None
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _absent(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    return file


def open_folder(root: Path, parts: Sequence[str]) -> int:
    """A handle of a folder, each one on the way opened by itself. Raises FileNotFoundError."""
    folder = os.open(root, _FOLDER)
    for part in parts:
        try:
            inner = os.open(part, _FOLDER, dir_fd=folder)
        except OSError as error:
            raise _absent(error) from None
        finally:
            os.close(folder)
        folder = inner
    return folder


def walk(root: Path, parts: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """(path, what is known of it) of every regular file below a folder, sorted in each; links are left out."""
    try:
        handle = open_folder(root, parts)
    except FileNotFoundError:
        return
    try:
        yield from _walk(handle, "")
    finally:
        os.close(handle)


def _absent(error: OSError) -> OSError:
    """What is no file of ours is no file at all."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG, errno.ENOENT):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return error


def _walk(folder: int, before: str) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(folder)):
        try:
            known = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(known.st_mode):
                yield before + name, known
            elif stat.S_ISDIR(known.st_mode):
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    yield from _walk(inner, f"{before}{name}/")
                finally:
                    os.close(inner)
        except FileNotFoundError:  # gone since it was listed
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EACCES):
                raise
