"""The file that goes to a processor elsewhere beside those of a tokenizer, so that it encodes without Transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .hugging_face import quiet_transformers

NAME = "deepgen_encoder.json"
"""A tokenizer may have an encoder.json of its own."""


@dataclass(frozen=True)
class EncoderFile:
    """What a host says of its tokenizer and of the model that it is for."""

    model: str
    """What the host calls the model, for messages."""
    tokenizer_class: str | None
    """The class of Transformers that it is of; None where somebody else has written it."""
    positions: int | None
    """The most tokens that the model takes; None when it has no such limit."""
    is_fast: bool
    """It has a Rust backend, which is tokenizer.json."""
    marks_targets: bool
    """It encodes targets in a way of their own, which tokenizer.json does not say."""
    model_input_names: Sequence[str]
    truncation_side: str
    split_special_tokens: bool
    model_max_length: int
    vocabulary_size: int
    special_ids: Sequence[int]
    mask_id: int | None
    start_id: int | None
    end_id: int | None
    unknown_token: str | None

    @classmethod
    def of(cls, tokenizer: Any, model: str, positions: int | None) -> EncoderFile:
        """Of a Hugging Face tokenizer and its model."""
        name = type(tokenizer).__name__
        return cls(
            model=model,
            tokenizer_class=name if getattr(quiet_transformers(), name, None) is type(tokenizer) else None,
            positions=positions,
            is_fast=tokenizer.is_fast,
            marks_targets=hasattr(tokenizer, "_switch_to_target_mode"),
            model_input_names=list(tokenizer.model_input_names),
            truncation_side=tokenizer.truncation_side,
            split_special_tokens=tokenizer.split_special_tokens,
            model_max_length=tokenizer.model_max_length,
            vocabulary_size=len(tokenizer),
            special_ids=tokenizer.all_special_ids,
            mask_id=tokenizer.mask_token_id,
            start_id=tokenizer.bos_token_id,
            end_id=tokenizer.eos_token_id,
            unknown_token=tokenizer.unk_token,
        )

    def written(self) -> bytes:
        """The file."""
        return json.dumps(asdict(self)).encode()


def read(files: Mapping[str, bytes]) -> EncoderFile | None:
    """What is said in the files of a host; None where it says nothing, or not all that is needed.

    Keys that are not known are passed over: a later host has them.
    """
    names = {field.name for field in fields(EncoderFile)}
    said = json.loads(files[NAME]) if NAME in files else {}
    return EncoderFile(**{name: said[name] for name in names}) if names <= said.keys() else None
