"""Folders that keep what is made or fetched once: features, trained tokenizers, and downloads of Hugging Face."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from .errors import SceneError
from .options import InputPath


@dataclass(frozen=True)
class CacheSettings:
    """What is kept for the next run, and where."""

    cache_dir: Annotated[str | None, InputPath] = None
    """Where features, trained tokenizers and what comes from the hub are kept for the next run; by default deepgen in
    the user's cache folder, and for the hub Hugging Face's own folders."""

    def made(self, what: Literal["features", "tokenizers"]) -> Path:
        """The folder of what DeepGen makes itself; it is there afterwards.

        Raises:
            SceneError: it cannot be written.
        """
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepgen"
        folder = (Path(self.cache_dir) if self.cache_dir else home) / what
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SceneError(f"cache_dir = '{folder}': {error.strerror}; give a folder to write to") from None
        return folder

    def downloads(self, what: Literal["models", "datasets"]) -> str | None:
        """The folder of downloads, for Hugging Face's own `cache_dir` arguments; None means its own default."""
        return str(Path(self.cache_dir) / what) if self.cache_dir else None
