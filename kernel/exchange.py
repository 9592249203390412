"""What passes between the kernel and its plugins: fields, labels, batches, losses, predictions, states of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

Problem = Literal[
    "regression", "single_label_classification", "multi_label_classification", "text", "masked_text", "embedding"
]
"""What a model answers with: numbers, one class of several, any of several, text, text behind masks, or vectors."""

Batch = dict[str, Any]
"""Field name → tensor [rows, …] on the rank's device; a string field is a list of str."""

NO_ROWS = "no_rows"
"""In a training batch: its one row only keeps this rank in step with the others, and no row may be compared with it."""

State = dict[str, "np.ndarray"]
"""What a metric keeps: arrays whose first axis is rows, so that ranks can be joined and put in row order."""


@dataclass(frozen=True)
class Field:
    """One column of features as a processor yields it."""

    name: str
    dtype: Literal["int64", "float32", "string"]
    shape: Literal["scalar", "fixed", "ragged"] = "scalar"
    padding: Literal["pad_token", "pad_token_type"] | int = 0
    """For ragged fields: the tokenizer's own id, or a number (-100 for labels that carry no loss)."""
    mask: str | None = None
    """For ragged fields: also give the batch a 0/1 mask of the real positions under this name."""
    side: Literal["tokenizer", "right"] = "tokenizer"
    """For ragged fields: pad on the tokenizer's own side, or always right."""
    length: bool = False
    """For ragged fields: its length decides which rows share a batch (the sum where several fields say so)."""


@dataclass(frozen=True)
class BadRow:
    """A value that a processor cannot read."""

    row: int
    """Index within the batch given to `process`."""
    column: str
    value: str
    reason: str
    """What would be right, such as `is not a whole number`."""


class BadRows(Exception):
    """Raised by a processor with every row of the batch that it cannot read; the kernel applies `bad_rows`."""

    def __init__(self, rows: Sequence[BadRow]) -> None:
        super().__init__(f"{len(rows)} bad rows")
        self.rows = rows


@dataclass(frozen=True)
class Labels:
    """What is known of the labels before the model is built."""

    field: Field
    size: int
    """Classes for whole numbers (largest + 1), values a row for fixed lists, 1 for plain numbers."""
    names: tuple[str, ...] = ()
    """Class names in index order, where the processor knows them."""
    means: tuple[float, ...] = ()
    """Mean over the training rows: share of each class, share of rows with each label, or number; empty in a stream."""


@dataclass
class Predictions:
    """A model's answers for some rows, on the CPU."""

    rows: np.ndarray
    """[rows] int64: row numbers in the input."""
    problem: Problem
    scores: np.ndarray | None = None
    """[rows, classes] float32 raw logits; [rows, 1] in regression."""
    texts: list[list[str]] | None = None
    """The generated texts of each row, best first."""
    labels: np.ndarray | None = None
    """[rows] int64 or float32, or [rows, classes] float32."""
    references: list[str] | None = None
    """The true text of each row, as the input has it; in evaluation only."""
    class_names: tuple[str, ...] = ()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The columns of `result_header`, for the outputter."""
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[rows, …]: whatever else `Model.predict` gave, in its order, for outputters and metrics."""
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[rows, size] float32 by side: `q`, and `d` where the model was given pairs."""


@dataclass(frozen=True)
class Elsewhere:
    """Where a plugin is that is in another process, and what it says of its code."""

    endpoint: str
    version: str
    digest: str


@dataclass
class Loss:
    """A loss as a sum and what it is a sum over, so that averages are exact over ranks and accumulation."""

    total: torch.Tensor
    """Scalar, with its gradient."""
    count: int
    """Rows or tokens; the same number that `Model.count` gives for the batch."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What `Model.predict` would give, where this pass gave it, not for text; `labels` where metrics see others."""
