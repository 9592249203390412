"""An outputter that is another after each start of its process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepgen.kernel.contracts import Outputter, Predictions
from deepgen.kernel.registry import outputter


@outputter("signed")
@dataclass
class Signed(Outputter):
    """The row numbers, and which process wrote them."""

    fits = frozenset({"regression"})

    def columns(self, problem: Any, result_columns: Sequence[str]) -> tuple[str, ...]:
        return ("row",)

    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        return [f"{row} {os.getpid()}\n" for row in predictions.rows]
