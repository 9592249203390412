"""Cells of text to try a processor with: families of values that are alike, and values that are odd."""

from __future__ import annotations

import json
from collections.abc import Sequence

from deepgen.v1.plugin_pb2 import OptionType, PluginDescriptor

ROWS = 24
_WORDS = [
    "the",
    "film",
    "was",
    "good",
    "we",
    "saw",
    "it",
    "and",
    "nobody",
    "left",
    "early",
    "a",
    "long",
    "warm",
    "day",
    "it",
    "rained",
    "not",
    "bad",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "very",
    "fine",
]

ODD = {
    "an empty text": "",
    "one space": " ",
    "an emoji of several characters": "👩‍👩‍👧‍👦 and 🏳️‍🌈",
    "combining marks": "é ñ Z͑ͫ̓ͪ̂ͫ̽͏̴",
    "letters of other scripts": "здравствуй 世界 مرحبا नमस्ते 𝔘𝔫𝔦",
    "invisible characters": "a\u200bb\u00adc\ufeffd\u202ee",
    "line separators": "a\u2028b\u0085c\x0bd",
    "control characters": "a\x01b\x1fc\x7f",
    "a TAB, a newline, a backslash": "a\tb\nc\\td\r",
    "characters that are none": "\ufffd\uffff\U0010ffff",
    "quotation marks and brackets": "\"'<s>[MASK]{}%s$1",
    "numbers at the edge": "1e999 -0 9223372036854775808 NaN",
}
"""Texts that real files hold, by what they are."""


def families(labels: Sequence[str]) -> dict[str, list[str]]:
    """By what they are: values of one kind, of which the first fits the first of any other family, and so on."""
    sentences = [" ".join(_WORDS[(5 * row + at) % len(_WORDS)] for at in range(1 + row % 7)) for row in range(ROWS)]
    named = list(labels) or ["1", "0"]
    tags = [" ".join(named[(row + at) % len(named)] for at in range(1 + row % 7)) for row in range(ROWS)]
    return {
        "sentences": sentences,
        "labels": [named[row % len(named)] for row in range(ROWS)],
        "a label for each word": tags,
        "lists of labels": [",".join(named[: row % (len(named) + 1)]) for row in range(ROWS)],
        "numbers": [f"{(row * 37 % 101) / 8 - 5}" for row in range(ROWS)],
        "whole numbers": [str(row * 7 - 20) for row in range(ROWS)],
        "small whole numbers": [str(row % 3) for row in range(ROWS)],
        "lists of numbers": [f"{row / 32},{1 - row / 32}" for row in range(ROWS)],
        "single words": [_WORDS[row % len(_WORDS)] for row in range(ROWS)],
        "JSON": [json.dumps({"text": sentences[row], "number": row}) for row in range(ROWS)],
        "dates": [f"2024-{1 + row % 12:02d}-{1 + row:02d}" for row in range(ROWS)],
    }


def labels_of(descriptor: PluginDescriptor, options: dict[str, str]) -> list[str]:
    """Words that the options name as labels: the keys of the first mapping, or else the items of the first list."""
    for kind in (OptionType.MAPPING, OptionType.LIST):
        for option in descriptor.options:
            if any(one.kind == kind for one in option.types):
                value = json.loads(options.get(option.name) or option.default_json or "null")
                if value:
                    return [str(label) for label in value]
    return []
