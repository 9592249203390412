"""Encodes batches of text with a tokenizer as fast as it goes: the Rust backend, with settings of our own."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Texts = Sequence[str | tuple[str, str]]
"""A row is one text or a pair; a batch may hold both."""


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded rows."""

    input_ids: pa.Array
    """List<int32>, one list a row, special tokens included."""
    token_type_ids: pa.Array | None
    """The same shape; None when the tokenizer has none."""
    truncated: np.ndarray
    """[rows] bool: the row was cut."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer; an id is None where there is no such token."""

    size: int
    """Of all of them, added ones too."""
    special: Sequence[int]
    """Ids of the special tokens."""
    mask: int | None
    """Of the token that stands for a hidden one."""
    start: int | None
    """Of the token that begins a text, `bos_token`."""
    end: int | None
    """Of the token that ends a text, `eos_token`."""
    unknown: str | None
    """The token itself that stands for what is not in the vocabulary."""
    id_of: Callable[[str], int | None]
    """Of any token, by its name."""

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """Of a Hugging Face tokenizer."""
        id_of = tokenizer.backend_tokenizer.token_to_id if tokenizer.is_fast else tokenizer.get_vocab().get
        named = tokenizer.mask_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id
        return cls(len(tokenizer), tokenizer.all_special_ids, *named, tokenizer.unk_token, id_of)


class Encoder:
    """Encodes rows of at most `max_length` tokens; may be called from several threads at once.

    Gives what `tokenizer(texts, pairs, truncation=True, max_length=max_length)` gives: pairs are cut longest first,
    special tokens are added unless `special` is off, nothing is padded. The tokenizer itself is left as it is.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, target: bool = False, special: bool = True) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._target = target
        self._special = special
        self._lock = threading.Lock()
        self.type_ids = "token_type_ids" in tokenizer.model_input_names
        """The tokenizer has some."""
        self._backend = _backend(tokenizer, max_length, target) if tokenizer.is_fast else None

    def __call__(self, texts: Texts) -> Encoded:
        """Encodes a batch of rows."""
        if self._backend is None:
            return self._slowly(texts)
        import numpy as np

        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=self._special)
        lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
        truncated = lengths == self.max_length
        for row in np.flatnonzero(truncated):  # a row may also just fit
            truncated[row] = bool(encodings[row].overflowing)
        return Encoded(
            _lists((encoding.ids for encoding in encodings), lengths),
            _lists((encoding.type_ids for encoding in encodings), lengths) if self.type_ids else None,
            truncated,
        )

    def words(self, rows: Sequence[Sequence[str]]) -> Sequence[Any] | None:
        """Rows of words, as `tokenizers.Encoding`s: ids, the word of each piece, and what was cut as `overflowing`.

        None without a Rust backend: such a tokenizer does not know the words.
        """
        if self._backend is None:
            return None
        made: Sequence[Any] = self._backend.encode_batch(rows, is_pretokenized=True, add_special_tokens=self._special)
        return made

    def _slowly(self, texts: Texts) -> Encoded:
        """The way for tokenizers that are written in Python: they hold state, so one thread at a time."""
        import numpy as np

        given = {"truncation": True, "max_length": self.max_length, "return_attention_mask": False}
        given["add_special_tokens"] = self._special
        rows = []
        with self._lock:
            for text in texts:
                first, second = (text, None) if isinstance(text, str) else text
                words = {"text_target": first} if self._target else {"text": first, "text_pair": second}
                rows.append(self._tokenizer(**words, **given))
        lengths = np.fromiter((len(row["input_ids"]) for row in rows), np.int32, len(rows))
        return Encoded(
            _lists((row["input_ids"] for row in rows), lengths),
            _lists((row["token_type_ids"] for row in rows), lengths) if self.type_ids else None,
            lengths == self.max_length,  # it does not say what it has cut
        )


def _backend(tokenizer: Any, max_length: int, target: bool) -> Any:
    """A copy of the Rust tokenizer with this cut and no padding; a packaged one brings settings of its own."""
    switch = target and hasattr(tokenizer, "_switch_to_target_mode")
    if switch:  # mBART and its kin mark the target with other special tokens
        tokenizer._switch_to_target_mode()
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    if switch:
        tokenizer._switch_to_input_mode()
    backend.no_padding()
    backend.enable_truncation(max_length, stride=0, strategy="longest_first", direction=tokenizer.truncation_side)
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def _lists(rows: Any, lengths: np.ndarray) -> pa.Array:
    """An Arrow array of lists."""
    import numpy as np
    import pyarrow as pa

    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    values = np.fromiter(chain.from_iterable(rows), np.int32, int(offsets[-1]))
    # `pa.array` would import pandas, for which a plugin that starts again would be waited for
    flat = pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])
    return pa.Array.from_buffers(pa.list_(flat.type), len(lengths), [None, pa.py_buffer(offsets)], children=[flat])
