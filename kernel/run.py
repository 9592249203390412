"""A run: what it does, in which folder and in how many ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from .options import Range


@dataclass(frozen=True)
class RunSettings:
    """What a run does and where it writes."""

    output_dir: str | None = None
    """The run folder; by default runs/ and the name of the scene. A relative path starts at the working folder."""
    overwrite_output_dir: bool = False
    """Empty the run folder first, instead of going on from what is in it."""
    do_train: Literal["auto"] | bool = "auto"
    """Train; auto: when train_dir is set."""
    do_eval: Literal["auto"] | bool = "auto"
    """Evaluate; auto: when eval_dir is set."""
    do_predict: Literal["auto"] | bool = "auto"
    """Predict; auto: when predict_dir is set."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 42
    """Of new weights, dropout and the order of the rows."""
    num_ranks: Annotated[int | None, Range(1)] = None
    """Processes that share the work; by default one for each GPU, or one. A launcher's own number comes first."""
