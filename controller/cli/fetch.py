"""`deepgen fetch ID`: brings the files of a job's run folder here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from ...kernel.errors import RunError, UserError
from .arguments import JSON, REMOTE, Option, help_of, read
from .display import bar, id_of, is_live, note, plain, print_json, seconds_of, state_of
from .follow import StatusLine

if TYPE_CHECKING:
    from deepgen.v1.controller_pb2 import Artifact
    from deepgen.v1.job_pb2 import Job

    from ..client import Client

OPTIONS = (
    Option("to", "FOLDER", "where the files go; by default a folder here with the job's id"),
    Option("list", "", "print which files there are, and bring none", short="l"),
    JSON,
    *REMOTE,
)
_PART = ".part"
_BLOCK = 1 << 20


def help_text(arguments: Sequence[str]) -> str:
    """What `deepgen fetch --help` prints."""
    text = (
        "A PATH is a file, a folder (model) or a pattern ('*.json'); without one all files are brought. Each is\n"
        "checked by its SHA-256, and gets its name when it is whole. Started again, it goes on where it was cut."
    )
    return help_of("fetch ID [PATH …] [--to FOLDER] [--list] [-o json]", text, OPTIONS)


def main(arguments: Sequence[str]) -> int:
    """Fetches or lists the files."""
    given = read("fetch", arguments, OPTIONS)
    name, *wanted = given.only(1, None, "a job id, and paths")
    with given.client() as client:
        job = client.find(name)
        there = client.artifacts(job.name)
        files = [file for file in there if not wanted or any(_fits(file.path, pattern) for pattern in wanted)]
        for pattern in wanted:
            if not any(_fits(file.path, pattern) for file in there):
                raise UserError(f"{id_of(job)} has no file '{pattern}'; `deepgen fetch {id_of(job)} --list` shows them")
        if given.has("list"):
            for file in files:
                if given.as_json:
                    print_json(file)
                else:
                    print(f"{file.size:>14,}  {plain(file.path)}")
            return 0
        if not files:
            note(f"{id_of(job)} has no files; it is {state_of(job)}")
            return 0
        folder = Path(given.one("to") or id_of(job)).expanduser()
        fetcher = _Fetcher(client, job, folder)
        for number, file in enumerate(files, start=1):
            fetcher.fetch(file, f"{number}/{len(files)}")
            if given.as_json:
                print_json(file)
    if not given.as_json:
        print(folder, flush=True)
        same = f", {fetcher.kept} were here already" if fetcher.kept else ""
        note(f"{len(files) - fetcher.kept} files, {fetcher.bytes:,} bytes{same}")
    return 0


def _fits(path: str, pattern: str) -> bool:
    pattern = pattern.rstrip("/")
    return path == pattern or path.startswith(f"{pattern}/") or fnmatchcase(path, pattern)


class _Fetcher:
    """Brings files into a folder."""

    def __init__(self, client: Client, job: Job, folder: Path) -> None:
        self._client = client
        self._job = job
        self._folder = folder
        self._line = StatusLine(is_live())
        self.bytes = 0
        self.kept = 0
        """Files that were here already."""

    def fetch(self, file: Artifact, count: str) -> None:
        """Brings one file, unless it is here.

        Raises:
            RunError: it does not have the checksum that the controller says, or cannot be written.
        """
        path = self._inside(file.path)
        at = seconds_of(file.update_time)
        try:
            known = path.stat()
            if known.st_size == file.size and abs(known.st_mtime - at) < 1e-3:
                self.kept += 1
                return
        except OSError:
            pass
        part = path.with_name(f".{path.name}{_PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._bring(file, part, count):
                # What was here before belongs to an older state of the file, or the file changed under our hands.
                part.unlink(missing_ok=True)
                if not self._bring(file, part, count):
                    part.unlink(missing_ok=True)
                    raise RunError(f"{file.path} does not have the checksum that the controller tells; try again")
            os.utime(part, (at, at))
            part.replace(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            self._line.clear()

    def _bring(self, file: Artifact, part: Path, count: str) -> bool:
        """Adds to the part what it lacks; whether the whole has the right checksum."""
        digest = hashlib.sha256()
        with part.open("ab+") as out:
            out.seek(0)
            while block := out.read(_BLOCK):
                digest.update(block)
            if out.tell() > file.size:
                return False
            for chunk in self._client.read(self._job.name, file.path, out.tell()):
                digest.update(chunk.data)
                out.write(chunk.data)
                self.bytes += len(chunk.data)
                if self._line.live and len(chunk.data) and file.size > _BLOCK:
                    self._line.draw(f"{count}  {file.path}  {bar(out.tell(), file.size)}")
                if chunk.sha256:
                    out.flush()
                    os.fsync(out.fileno())
                    return chunk.sha256 == digest.hexdigest()
        return False

    def _inside(self, name: str) -> Path:
        """The file's place in the folder; a name that leads out of it is refused, whoever sends it."""
        parts = name.split("/")
        if not all(parts) or any(part in (".", "..") or "\\" in part or "\0" in part for part in parts):
            raise RunError(f"the controller names a file '{plain(name)}', which is not inside the run folder")
        path = self._folder.joinpath(*parts)
        if self._folder.exists() and not path.parent.resolve().is_relative_to(self._folder.resolve()):
            raise UserError(f"{path.parent}: a link leads out of {self._folder}; give another folder by --to")
        return path
