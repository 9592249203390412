"""A tokenizer that a host has sent: Transformers is loaded for what needs it only, and without torch."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from ...kernel.encoder_file import EncoderFile
from ...kernel.encoding import Vocabulary
from ...kernel.hugging_face import quiet_transformers
from ...kernel.pretrained import Pretrained, PretrainedSettings

BACKEND = "tokenizer.json"


class SentPretrained(Pretrained):
    """The files of a host; one of an earlier version says nothing of them, and they are read as any others."""

    def __init__(self, folder: Path, said: EncoderFile | None) -> None:
        super().__init__(PretrainedSettings(str(folder)))
        self._said = said
        if said is not None:
            self._called = said.model

    @cached_property
    def positions(self) -> int | None:
        """As the host says."""
        return super().positions if self._said is None else self._said.positions

    @property
    def vocabulary(self) -> Vocabulary:
        """As the host says, unless a processor may have added tokens to the tokenizer."""
        alone = self._alone()
        return super().vocabulary if alone is None else alone.vocabulary

    def _tokenizer_class(self) -> Any:
        """The one that it is of there. An auto class would look for it by the model, and load torch for that."""
        transformers = quiet_transformers()
        found = getattr(transformers, (self._said and self._said.tokenizer_class) or "", None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedTokenizerBase):
            return found
        return super()._tokenizer_class()

    def _encodes(self, target: bool) -> Any:
        """The backend alone, where that gives the same."""
        alone = self._alone()
        return self.tokenizer if alone is None or (target and alone.said.marks_targets) else alone

    def _alone(self) -> _Backend | None:
        """The backend, unless Transformers has to be asked; what it has loaded may have more tokens by now."""
        if self._said is None or not self._said.is_fast or "tokenizer" in vars(self):
            return None
        return self._backend

    @cached_property
    def _backend(self) -> _Backend:
        assert self._said is not None
        return _Backend(Path(self.source) / BACKEND, self._said)


class _Backend:
    """A tokenizer as an encoder reads it."""

    is_fast = True

    def __init__(self, file: Path, said: EncoderFile) -> None:
        from tokenizers import Tokenizer

        self.said = said
        self.backend_tokenizer = Tokenizer.from_file(str(file))
        self.model_input_names = said.model_input_names
        self.truncation_side = said.truncation_side
        self.split_special_tokens = said.split_special_tokens
        self.model_max_length = said.model_max_length
        self.vocabulary = Vocabulary(
            said.vocabulary_size,
            said.special_ids,
            said.mask_id,
            said.start_id,
            said.end_id,
            said.unknown_token,
            self.backend_tokenizer.token_to_id,
        )
