"""The contracts of the five plugin kinds; what passes between them and the kernel is in exchange.py.

A plugin is a dataclass: its fields are its options, each with a default and a docstring under it, and each is a key of
a scene file. `deepgen check` imports plugins without torch, so a plugin imports torch inside its methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, ClassVar

from .exchange import NO_ROWS, BadRow, BadRows, Batch, Elsewhere, Field, Labels, Loss, Predictions, Problem, State

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    import torch

    from .pretrained import Pretrained
    from .scene import Scene, Split
    from .training import Run

__all__ = [
    "NO_ROWS",
    "BadRow",
    "BadRows",
    "Batch",
    "Elsewhere",
    "Field",
    "Labels",
    "Loss",
    "Metric",
    "Model",
    "Outputter",
    "Plugin",
    "Predictions",
    "Problem",
    "Processor",
    "State",
    "Trainer",
]


class Plugin(ABC):  # noqa: B024 - each kind adds its own abstract methods
    """What all kinds share. `kind` and `name` are set when the class is registered."""

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    elsewhere: ClassVar[Elsewhere | None] = None
    """Where it is, for a class that stands for a plugin in another process."""

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        """Refuses, before a run and without torch, options that do not go with the scene; gives notes for a person.

        Raises:
            SceneError: opening with the name of the option that is wrong.
        """
        return ()


class Processor(Plugin):
    """Turns columns of text into features, a batch of rows at a time.

    @processor("length")
    @dataclass
    class Length(Processor):
        def fields(self) -> tuple[Field, ...]:
            return (Field(self.output, "int64"),)

        def process(self, columns):
            return {self.output: pc.cast(pc.utf8_length(columns[0]), "int64")}
    """

    kind = "processor"
    columns_in: ClassVar[tuple[int, int]] = (1, 1)
    """The least and the most input columns."""

    inputs: tuple[str, ...] = ()
    output: str = ""
    pretrained: Pretrained | None = None
    cut: dict[str, int]
    """Rows that lost text, by field, since the kernel last asked; see `count_cut`."""

    def bind(self, inputs: Sequence[str], output: str, pretrained: Pretrained | None = None) -> None:
        """Tells the processor its columns, its output name and where the tokenizer is, from the header item."""
        self.inputs, self.output, self.pretrained = tuple(inputs), output, pretrained
        self.cut = {}

    def count_cut(self, name: str, rows: np.ndarray) -> None:
        """Tells which rows of the batch lost text in a field ([rows] bool); their share is reported."""
        self.cut[name] = self.cut.get(name, 0) + int(rows.sum())

    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """The fields that `process` yields, known from options and header alone, without a tokenizer."""

    @abstractmethod
    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        """Maps string arrays, one an input column, to one array a field (lists for ragged and fixed fields).

        A field may be left out when the tokenizer does not have it (`token_type_ids`).

        Raises:
            BadRows: naming every row that cannot be read.
        """

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        """Fields to be drawn at random, as masks are, whenever rows become a batch; kernel/drawing.py says how."""
        return {}

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in index order, where this processor makes labels from names."""
        return ()

    def reference_column(self) -> str | None:
        """The input column that holds the true text, where this processor makes labels from text."""
        return None


class Model(Plugin):
    """A task: builds the torch module, gives the loss of a batch and predicts."""

    kind = "model"
    needs: ClassVar[tuple[str, ...]] = ("input_ids",)
    """Fields without which it cannot predict."""
    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    @abstractmethod
    def problem(self, labels: Field | None) -> Problem:
        """What it answers with, decided from the declared type of the labels (None: not declared here).

        Raises:
            SceneError: these labels cannot be learned by this task.
        """

    @abstractmethod
    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        """The module with its weights. `labels` is None when there is no training data: use the saved config."""

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """What the loss of the batch is divided by: rows or label tokens. Looks at labels only, runs nothing."""

    @abstractmethod
    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        """One forward pass through `module` (called, never reached into: it may be partitioned over ranks)."""

    @abstractmethod
    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        """`{"scores": [rows, classes]}`, `{"texts": list[list[str]]}`, `{"vectors": {side: [rows, size]}}`; or more."""

    def class_names(self, module: torch.nn.Module) -> tuple[str, ...]:
        """Names of the classes in index order, as the saved module knows them; empty where there are none."""
        return ()

    def decided(self) -> Mapping[str, Any]:
        """Options that `build` decided, such as problem_type, to be saved with the model folder."""
        return {}

    def save(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        """Writes the module's config and the weights of `state` (all, in float32) into an empty model folder."""
        writer: Any = module
        writer.save_pretrained(folder, state_dict=dict(state))


class Metric(Plugin):
    """A score over all rows, exact over any number of ranks; README.md has a whole one as its example."""

    kind = "metric"
    fits: ClassVar[frozenset[Problem]] = frozenset()
    """The problems it can score."""
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The score names `compute` yields, the main one first; per-class keys may follow at run time."""

    @abstractmethod
    def update(self, predictions: Predictions) -> State:
        """What is to be kept of some rows: arrays whose first axis is those rows."""

    def merge(self, states: Sequence[State]) -> State:
        """Joins the states of batches and ranks. The kernel puts the rows in input order before `compute`."""
        import numpy as np

        return {key: np.concatenate([state[key] for state in states]) for key in states[0]} if states else {}

    @abstractmethod
    def compute(self, state: State, class_names: Sequence[str] = ()) -> dict[str, float]:
        """Scores by key; `nan` where a score is not defined (said in the docstring). Empty state: no rows."""


class Outputter(Plugin):
    """How a row of the result file is written, in any of several processes; the kernel merges them in row order."""

    kind = "outputter"
    fits: ClassVar[frozenset[Problem]] = frozenset()
    extension: ClassVar[str] = ".txt"

    @abstractmethod
    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        """The names of the columns of the file, for the record and the docs."""

    @abstractmethod
    def format(self, predictions: Predictions) -> list[str] | list[bytes]:
        """One string a row: one or several whole lines, each ending in a newline. Bytes are for `assemble` to read."""

    def assemble(self, rows: Iterable[bytes], count: int, file: IO[bytes]) -> None:
        """Writes the file from what `format` gave of all `count` rows, in row order; on any rank, with fresh state."""
        file.writelines(rows)

    def read(self, row: bytes, columns: Sequence[str]) -> list[dict[str, Any]]:
        """What `format` gave of a row as values by column, a dict a line; by default the texts between TABs."""
        from .lines import cells

        return [dict(zip(columns, texts, strict=True)) for texts in cells(row)]


class Trainer(Plugin):
    """The training loop. `common` is the one loop; others subclass it and override its hooks."""

    kind = "trainer"

    @abstractmethod
    def train(self, run: Run) -> Mapping[str, float]:
        """Trains `run.module` to the end, or until `run.stop` asks for one; the scores of the model it ends with."""
