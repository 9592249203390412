"""Processor `causal_tokenize`: source, separator and target as one row of token ids for a decoder-only model."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from ...kernel.cells import refuse
from ...kernel.contracts import Field, Processor
from ...kernel.errors import SceneError
from ...kernel.options import Alias, Range
from ...kernel.registry import processor

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@processor("causal_tokenize")
@dataclass
class CausalTokenize(Processor):
    """Token ids of source, separator, target and the end token as `input_ids`; of the source and separator alone where
    no target is given.

    `labels` has the ids of the target and the end token at their places, and -100, which carries no loss, before them.
    In front of the source stand the special tokens that the tokenizer puts in front of a text; what it puts behind
    one, such as an end token, stands behind the target only. Source and target are cut on their own, on the tokenizer's
    truncation side: neither takes room from the other, the separator is never cut, and a cut target still has its end
    token. A source without tokens is the tokenizer's start token, or its end token where it has no start.
    """

    columns_in: ClassVar[tuple[int, int]] = (1, 2)

    source_max_length: Annotated[int | None, Alias("tok_max_length"), Range(1)] = None
    """Longest source in tokens, with the special tokens in front of it; by default half of what the model takes, at
    most 512, or what target_max_length leaves."""
    target_max_length: Annotated[int | None, Range(1)] = None
    """Longest target in tokens, its end token included; by default half of what the model takes, at most 512, or what
    source and separator leave."""
    separator: str = ""
    """Text between source and target, such as `\\nAnswer: `; it may name special tokens, such as `<s>`."""

    def fields(self) -> tuple[Field, ...]:
        tokens = Field("input_ids", "int64", "ragged", padding="pad_token", mask="attention_mask", length=True)
        labels = Field("labels", "int64", "ragged", padding=-100)
        return (tokens, labels)[: len(self.inputs)]

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        import numpy as np

        assert self.pretrained is not None
        for name, cells in zip(self.inputs, columns, strict=True):
            refuse(name, cells)
        vocabulary, rows = self.pretrained.vocabulary, len(columns[0])
        front, separator = self._front(), self._ids(self.separator, special=False) if self.separator else []
        source_most, target_most = self._limits(len(front), len(separator))
        source = self.pretrained.encoder(source_most, special=False)(columns[0].to_pylist())
        self.count_cut("input_ids", source.truncated)
        texts = source.input_ids
        parts = [_repeated(front, np.ones(rows, bool)), texts, _repeated(separator, np.ones(rows, bool))]
        if not front and not separator:
            start = [token for token in (vocabulary.start, vocabulary.end) if token is not None][:1]
            parts.append(_repeated(start, np.diff(texts.offsets.to_numpy()) == 0))
        if len(columns) == 1:
            return {"input_ids": _joined(parts)}
        if vocabulary.end is None:
            raise SceneError("causal_tokenize: the tokenizer has no end token (eos_token), which closes each target")
        target = self.pretrained.encoder(target_most, special=False)(columns[1].to_pylist())
        self.count_cut("labels", target.truncated)
        targets = [target.input_ids, _repeated([vocabulary.end], np.ones(rows, bool))]
        return {"input_ids": _joined([*parts, *targets]), "labels": _joined([*map(_unlearned, parts), *targets])}

    def reference_column(self) -> str | None:
        return self.inputs[1] if len(self.inputs) == 2 else None

    def _front(self) -> list[int]:
        """The special tokens that the tokenizer puts in front of a text."""
        whole, alone = self._ids("a", special=True), self._ids("a", special=False)
        places = [at for at in range(len(whole)) if whole[at : at + len(alone)] == alone] if alone else [0]
        return whole[: places[0]]

    def _ids(self, text: str, *, special: bool) -> list[int]:
        assert self.pretrained is not None
        encoder = self.pretrained.encoder(None, special=special)
        encoded = encoder([text])
        if encoded.truncated[0]:
            raise SceneError(f"separator has more tokens than the model takes: at most {encoder.max_length}")
        ids: list[int] = encoded.input_ids[0].as_py()
        return ids

    def _limits(self, front: int, separator: int) -> tuple[int, int]:
        """The most tokens of the texts of source and target, without those that are put around them."""
        assert self.pretrained is not None
        half = self.pretrained.encoder(None, special=False).max_length // 2
        most = self.pretrained.positions or sys.maxsize
        source, target = self.source_max_length, self.target_max_length
        if source is None:
            source = min(half, most - separator - (target or 0))
        if target is None:
            target = min(half, most - separator - source)
        if source <= front or target < 2 or source + separator + target > most:
            fit = "" if self.pretrained.positions is None else f" and fit into the {most} that the model takes"
            raise SceneError(
                f"source_max_length = {source} and target_max_length = {target} do not go together: with {front} "
                f"tokens in front, a separator of {separator} and an end token, both have to hold text{fit}"
            )
        return source - front, target - 1


def _repeated(ids: Sequence[int], rows: np.ndarray) -> pa.ListArray:
    """The same tokens for each row that is marked ([rows] bool), none for the others."""
    import numpy as np
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(rows * len(ids))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, np.tile(np.array(ids, np.int32), int(rows.sum())))


def _unlearned(part: pa.ListArray) -> pa.ListArray:
    """As many -100 as there are tokens."""
    import numpy as np
    import pyarrow as pa

    return pa.ListArray.from_arrays(part.offsets, np.full(len(part.values), -100, np.int32))


def _joined(parts: Sequence[pa.ListArray]) -> pa.ListArray:
    """The parts of each row, one behind the other."""
    import numpy as np
    import pyarrow as pa

    bounds = [part.offsets.to_numpy() for part in parts]
    offsets = np.add.reduce(bounds).astype(np.int32)
    values = np.empty(offsets[-1], np.int32)
    begin = offsets[:-1].copy()
    for part, own in zip(parts, bounds, strict=True):
        lengths = np.diff(own)
        values[np.repeat(begin - own[:-1], lengths) + np.arange(own[-1])] = part.values.to_numpy()
        begin += lengths
    return pa.ListArray.from_arrays(offsets, values)
