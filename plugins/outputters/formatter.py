"""Re-cased text: the words of a column, each in the case that its predicted tag says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...kernel.contracts import Outputter, Predictions, Problem
from ...kernel.errors import SceneError
from ...kernel.registry import outputter
from .score import escape

if TYPE_CHECKING:
    from ...kernel.scene import Scene, Split

CASES: dict[str, Callable[[str], str]] = {
    "keep": lambda word: word,
    "lower": str.lower,
    "capital": lambda word: word[:1].upper() + word[1:].lower(),
    "upper": str.upper,
}


@outputter("formatter")
@dataclass
class Formatter(Outputter):
    """Result columns and the re-cased text, divided by TAB, one row a line, without a header line.

    The prediction is a tag for each word (`seq2tag`), the words are those of the column `query`, which result_header
    must name. Spaces between words are kept. A word without a tag, as beyond the longest input, or with one that
    `case_mapping` does not know, stays as it is. Result columns and text are escaped as in `score`.
    """

    fits = frozenset({"text"})

    query_column: str = "query"
    """The column whose words are tagged."""
    case_mapping: dict[str, str] = field(default_factory=lambda: {"0": "lower", "1": "capital", "2": "upper"})
    """What each tag does to its word, as `tag:case,…` or a mapping: keep, lower, upper or capital (first letter)."""

    def __post_init__(self) -> None:
        for tag, case in self.case_mapping.items():
            if case not in CASES:
                raise SceneError(f"case_mapping: '{tag}' has the case '{case}'; there are {', '.join(CASES)}")

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        if self.query_column not in scene.values["result_header"].value:
            raise SceneError(
                f"result_header lacks '{self.query_column}', whose words formatter writes; add it, or set query_column"
            )
        return ()

    def columns(self, problem: Problem, result_columns: Sequence[str]) -> tuple[str, ...]:
        return (*result_columns, "text")

    def format(self, predictions: Predictions) -> list[str]:
        assert predictions.texts is not None, "this problem has texts"
        if not len(predictions.rows):
            return []
        if self.query_column not in predictions.columns:
            raise SceneError(f"result_header lacks '{self.query_column}', whose words formatter writes; add it")
        tags = [texts[0].split() if texts else [] for texts in predictions.texts]
        words = predictions.columns[self.query_column]
        texts = escape([self._cased(text, of) for text, of in zip(words, tags, strict=True)])
        columns = [escape(column) for column in predictions.columns.values()]
        return ["\t".join(cells) + "\n" for cells in zip(*columns, texts, strict=True)]

    def _cased(self, text: str, tags: list[str]) -> str:
        """The text with each word in the case of its tag, and all else as it was."""
        parts, place = [], 0
        for word, tag in zip(text.split(), tags, strict=False):
            start = text.index(word, place)
            parts += [text[place:start], CASES[self.case_mapping.get(tag, "keep")](word)]
            place = start + len(word)
        return "".join([*parts, text[place:]])
