"""Processor `mlm_tokenize`: one text, or a pair, as token ids of which some are masked anew in each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ...kernel.contracts import Field
from ...kernel.drawing import uniform
from ...kernel.errors import SceneError
from ...kernel.options import Range
from ...kernel.registry import processor
from .cls_tokenize import ClsTokenize

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MASKED, REPLACED = 0.8, 0.1
"""Shares of the chosen tokens that become the mask token, and a token drawn from the vocabulary; the others stay."""


@processor("mlm_tokenize")
@dataclass
class MlmTokenize(ClsTokenize):
    """Token ids as of `cls_tokenize`, some of them hidden, and the hidden ones as `masked`, which is -100 elsewhere.

    Each token is chosen with the probability `mlm_prob`. Of those that are chosen 80 % become the mask token, 10 % a
    token drawn from the vocabulary, and 10 % stay (BERT, arXiv 1810.04805 §3.1). Special tokens of the tokenizer are
    never chosen. In training the choice is another one in each epoch, whatever the ranks and batches; in evaluation it
    is always the same; in prediction nothing is hidden, and the text is to hold the masks.
    """

    mlm_prob: Annotated[float, Range(0, 1)] = 0.15
    """The probability that a token is hidden, and has to be found."""

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("masked", "int64", "ragged", padding=-100))

    def process(self, columns: Sequence[pa.Array]) -> Mapping[str, pa.Array]:
        assert self.pretrained is not None
        if self.pretrained.vocabulary.mask is None:
            raise SceneError(
                "mlm_tokenize: the tokenizer has no mask token; one that is trained from scratch has it if its model "
                "is word_piece or bpe"
            )
        return super().process(columns)

    def draw(self, rows: Mapping[str, Any], keys: np.ndarray) -> Mapping[str, Any]:
        import numpy as np

        assert self.pretrained is not None
        vocabulary = self.pretrained.vocabulary
        assert vocabulary.mask is not None  # else there would be no rows
        lengths = np.array([len(row) for row in rows["input_ids"]], np.int64)
        ids = np.concatenate(rows["input_ids"])
        special = np.zeros(max(vocabulary.size, int(ids.max(initial=0)) + 1), bool)
        special[vocabulary.special] = True
        chosen = (uniform(keys, lengths) < self.mlm_prob) & ~special[ids]
        fate = uniform(keys, lengths, 1)
        others = (uniform(keys, lengths, 2) * vocabulary.size).astype(ids.dtype)
        shown = np.where(fate < MASKED, vocabulary.mask, np.where(fate < MASKED + REPLACED, others, ids))
        bounds = np.cumsum(lengths)[:-1]
        return {
            "input_ids": np.split(np.where(chosen, shown, ids), bounds),
            "masked": np.split(np.where(chosen, ids, -100), bounds),
        }
