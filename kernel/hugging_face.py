"""The Transformers library, imported when it is needed and without noise of its own."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any


def quiet_transformers() -> Any:
    """The Transformers library, with neither warnings nor progress bars of its own."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@cache
def library_versions() -> tuple[str, ...]:
    """The libraries whose version may change how text is split."""
    return tuple(f"{name}=={version(name)}" for name in ("tokenizers", "transformers"))
