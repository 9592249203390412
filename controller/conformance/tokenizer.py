"""The files of a small tokenizer and model config, as a host sends them, for processors that need some."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from ...kernel.encoder_file import NAME, EncoderFile

NAMED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>")
SPECIAL = (*NAMED, *(f"<extra_id_{n}>" for n in range(20)))
WORDS = [
    "the",
    "a",
    "we",
    "saw",
    "film",
    "was",
    "not",
    "long",
    "warm",
    "day",
    "nobody",
    "left",
    "early",
    "it",
    "rained",
    "and",
    "cat",
    "sat",
    "on",
    "mat",
    "good",
    "bad",
    "very",
    "fine",
    "0",
    "1",
]
POSITIONS = 64
"""The most tokens that the model takes: long texts are cut."""


@cache
def files() -> dict[str, bytes]:
    """By file name; words outside a small vocabulary are the unknown token."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *WORDS))}

    def piece(token: str, kind: int) -> dict[str, object]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    first, second = ({"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB"))
    front, middle = [piece("[CLS]", 0), first, piece("[SEP]", 0)], [second, piece("[SEP]", 1)]
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in SPECIAL
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": front,
            "pair": [*front, *middle],
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    config = {"model_type": "bert", "vocab_size": len(vocabulary), "max_position_embeddings": POSITIONS}
    written = {"tokenizer.json": whole, "tokenizer_config.json": settings, "config.json": config}
    said = EncoderFile(
        model="tests",
        tokenizer_class="TokenizersBackend",
        positions=POSITIONS,
        is_fast=True,
        marks_targets=False,
        model_input_names=settings["model_input_names"],
        truncation_side="right",
        split_special_tokens=False,
        model_max_length=POSITIONS,
        vocabulary_size=len(vocabulary),
        special_ids=[vocabulary[token] for token in NAMED],
        mask_id=vocabulary["[MASK]"],
        start_id=vocabulary["<s>"],
        end_id=vocabulary["</s>"],
        unknown_token="[UNK]",
    )
    files = {name: json.dumps(content, ensure_ascii=False).encode() for name, content in written.items()}
    return {**files, NAME: said.written()}
