"""Class lines: the result columns, then the class with the highest score, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.errors import SceneError
from ...kernel.registry import outputter
from .score import escape

if TYPE_CHECKING:
    import numpy as np

    from ...kernel.scene import Scene, Split


@outputter("multi_class")
@dataclass
class MultiClass(Outputter):
    """Result columns and the text of the best class, divided by TAB, one row a line, without a header line.

    The text is that of `output_mapping`, else the name that the model has for the class, else its number. Of equal
    scores the lower class is taken; with one logit it is class 1 where the logit is above 0. Result columns and texts
    are escaped as in `score`.
    """

    fits = frozenset({"single_label_classification"})

    output_mapping: dict[str, str] = field(default_factory=dict)
    """Text of each class number, as `0:bad,1:good` or a mapping; by default the class names."""

    def __post_init__(self) -> None:
        for number in self.output_mapping:
            if not str(number).isdecimal() or str(int(number)) != str(number):
                raise SceneError(f"output_mapping: '{number}' is no class number; write number:text, as 0:bad,1:good")

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        for split in ("train", "eval"):
            if split in splits:
                for processor in scene.processors(split):
                    if any(made.name == "labels" for made in processor.fields()):
                        self._texts(len(processor.class_names()), processor.class_names())
        return ()

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "class")

    def format(self, predictions: Predictions) -> list[str]:
        assert predictions.scores is not None, "classes have scores"
        texts = self._texts(max(predictions.scores.shape[1], 2), predictions.class_names)
        columns = [escape(column) for column in predictions.columns.values()]
        classes = escape([texts[number] for number in best_classes(predictions.scores).tolist()])
        return ["\t".join(cells) + "\n" for cells in zip(*columns, classes, strict=True)]

    def _texts(self, classes: int, names: Sequence[str]) -> list[str]:
        """The text of each class.

        Raises:
            SceneError: output_mapping is given and leaves a class out.
        """
        if not self.output_mapping:
            return list(names) if len(names) == classes else [str(number) for number in range(classes)]
        texts = {int(number): str(text) for number, text in self.output_mapping.items()}
        missing = [str(number) for number in range(classes) if number not in texts]
        if missing:
            raise SceneError(
                f"output_mapping has no text for class {', '.join(missing)}; there are the classes 0 to {classes - 1}"
            )
        return [texts[number] for number in range(classes)]


def best_classes(logits: np.ndarray) -> np.ndarray:
    """[rows] the class with the highest of [rows, classes] logits; of one logit, whether it is above 0."""
    best: np.ndarray = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(axis=1)
    return best
