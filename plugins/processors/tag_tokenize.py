"""Processor `tag_tokenize`: the words of a text as token ids, and the tag of each word where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from ...kernel.cells import refuse
from ...kernel.contracts import BadRow, BadRows, Field, Processor
from ...kernel.errors import SceneError
from ...kernel.label_names import Mapped, parse
from ...kernel.options import Alias, Range
from ...kernel.registry import processor

if TYPE_CHECKING:
    import pyarrow as pa


@processor("tag_tokenize")
@dataclass
class TagTokenize(Processor):
    """Token ids of a text whose words are divided by spaces, and a tag for the first piece of each word.

    The first column is the text, the second, which may be left out, the tags, as many as words. `word_starts` is 1 at
    the first piece of each word, where a tag is predicted; other pieces carry no loss. Words beyond the longest input
    have no tag.
    """

    columns_in: ClassVar[tuple[int, int]] = (1, 2)

    source_max_length: Annotated[int | None, Alias("tok_max_length"), Range(1)] = None
    """Longest input in tokens, a pair together; by default what the model takes, at most 1024."""
    label_mapping: dict[str, str] = field(default_factory=lambda: {"1": "1", "0": "0"})
    """Number of each label, as `name:number,…` or a mapping: classes 0, 1, 2 … without gaps, or decimal numbers."""

    def __post_init__(self) -> None:
        self._mapped: Mapped = parse(self.label_mapping)
        if self._mapped.dtype != "int64":
            raise SceneError("label_mapping: tag_tokenize needs the number of each tag, 0, 1, 2 …, not decimals")
        for name in self._mapped.names:
            if len(name.split()) != 1:
                raise SceneError(f"label_mapping: the tag '{name}' is not one word; spaces divide the tags of a text")

    def fields(self) -> tuple[Field, ...]:
        made = (
            Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True),
            Field("token_type_ids", "int64", "ragged", padding="pad_token_type"),
            Field("word_starts", "int64", "ragged", padding=0),
        )
        return (*made, Field("labels", "int64", "ragged", padding=-100)) if len(self.inputs) == 2 else made

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import numpy as np
        import pyarrow as pa

        for name, cells in zip(self.inputs, columns, strict=True):
            refuse(name, cells)
        texts = [text.split() for text in columns[0].to_pylist()]
        tags = self._tags(columns[1], texts) if len(columns) == 2 else None
        encoded, has_type_ids = self._encode(texts)
        self.count_cut("input_ids", np.array([bool(row.overflowing) for row in encoded], bool))
        starts = [_starts(row.word_ids) for row in encoded]
        features = {
            "input_ids": [row.ids for row in encoded],
            "word_starts": [[int(word is not None) for word in row] for row in starts],
        }
        if has_type_ids:
            features["token_type_ids"] = [row.type_ids for row in encoded]
        if tags is not None:
            features["labels"] = [
                [-100 if word is None else numbers[word] for word in row]
                for row, numbers in zip(starts, tags, strict=True)
            ]
        return {name: pa.array(values, pa.list_(pa.int32())) for name, values in features.items()}

    def _tags(self, cells: pa.Array, texts: list[list[str]]) -> list[list[int]]:
        """The number of the tag of each word."""
        names = [cell.split() for cell in cells.to_pylist()]
        numbers = dict(zip(self._mapped.names, self._mapped.numbers, strict=True))
        bad = []
        for row, (given, words) in enumerate(zip(names, texts, strict=True)):
            reason = f"has {len(given)} tags for {len(words)} words of the text" if len(given) != len(words) else None
            if reason is None and any(name not in numbers for name in given):
                reason = self._mapped.reason
            if reason is not None:
                bad.append(BadRow(row, self.inputs[1], cells[row].as_py(), reason))
        if bad:
            raise BadRows(bad)
        return [[int(numbers[name]) for name in given] for given in names]

    def _encode(self, texts: list[list[str]]) -> tuple[list[Any], bool]:
        """The encoded rows, each word with a piece at least, and whether they have token types."""
        assert self.pretrained is not None
        encoder = self.pretrained.encoder(self.source_max_length)
        made = encoder.words(texts)
        if made is None:
            raise SceneError("model: tag_tokenize needs a fast tokenizer, which knows the word of each piece")
        encoded = list(made)
        odd = [row for row, words in enumerate(texts) if len(_known(encoded[row])) != len(words)]
        unknown = self.pretrained.vocabulary.unknown or "?"
        for row in odd:  # a word of characters that the tokenizer drops would have no place for its tag
            known = _known(encoded[row])
            texts[row] = [word if place in known else unknown for place, word in enumerate(texts[row])]
        if odd:
            again = encoder.words([texts[row] for row in odd]) or ()
            for row, mended in zip(odd, again, strict=True):
                encoded[row] = mended
        return encoded, encoder.type_ids

    def class_names(self) -> tuple[str, ...]:
        return self._mapped.class_names

    def reference_column(self) -> str | None:
        return self.inputs[1] if len(self.inputs) == 2 else None


def _known(encoding: Any) -> set[int]:
    """The words that have a piece, also one that was cut."""
    pieces = (word for part in (encoding, *encoding.overflowing) for word in part.word_ids)
    return {word for word in pieces if word is not None}


def _starts(words: Sequence[int | None]) -> list[int | None]:
    """The word that begins at each piece; None for later pieces and special tokens."""
    return [word if place == 0 or word != words[place - 1] else None for place, word in enumerate(words)]
