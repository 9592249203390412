"""Tokenizers that hosts send as files, each in a private temporary folder for as long as an instance has it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .refusals import invalid

if TYPE_CHECKING:
    from ...kernel.pretrained import Pretrained


class Tokenizers:
    """Instances with the same files share one tokenizer, as processors in one process do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder = ""
        self._known: dict[str, tuple[Pretrained, int]] = {}
        """By hash of the files, with how many instances have it."""

    def take(self, files: Mapping[str, bytes]) -> tuple[str, Pretrained]:
        """A key to give it back by, and the tokenizer; nothing is loaded before it is asked for.

        Raises:
            Refused: a name that is none of a file.
            SceneError: the files are no tokenizer.
        """
        for name in files:
            if not name or name in (".", "..") or set(name) & set("/\\\0"):
                raise invalid(f"tokenizer: '{name}' is no name of a file")
        state = hashlib.sha256()
        for name in sorted(files):
            state.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
        key = state.hexdigest()
        with self._lock:
            if key in self._known:
                pretrained, users = self._known[key]
            else:
                pretrained, users = self._made(key, files), 0
            self._known[key] = (pretrained, users + 1)
        return key, pretrained

    def give_back(self, key: str) -> None:
        """One instance less has it; the files of the last one are deleted."""
        with self._lock:
            pretrained, users = self._known.pop(key)
            if users > 1:
                self._known[key] = (pretrained, users - 1)
            else:
                shutil.rmtree(Path(self._folder) / key, ignore_errors=True)

    def close(self) -> None:
        """Deletes all files."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _made(self, key: str, files: Mapping[str, bytes]) -> Pretrained:
        from ...kernel import encoder_file
        from .sent import SentPretrained

        self._folder = self._folder or tempfile.mkdtemp(prefix="deepgen-plugin-")
        folder = Path(self._folder) / key
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            return SentPretrained(folder, encoder_file.read(files))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
