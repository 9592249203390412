"""The registry of the plugin protocol: its versions, the names of its features, and its sizes."""

from __future__ import annotations

from collections.abc import Iterable

VERSIONS = (1,)
"""Of the protocol, proto/deepgen/v1; the highest that both sides have is used."""

SHARED_MEMORY = "payload.shared_memory.v1"
"""Payloads of SHARED_FROM bytes and more go through memory of the host's."""
PARTS = "payload.parts.v1"
"""Payloads above LARGEST are put aside, and fetched, in pieces."""
TOKENIZER = "processor.tokenizer.v1"
"""Processors get the files of the tokenizer when they are configured."""
LINES = "model.lines.v1"
"""A served model also gives the lines that a result file would have."""

SHARED_FROM = 1 << 20
"""Bytes."""
LARGEST = 64 << 20
"""Bytes of a payload within a message."""
LARGEST_MESSAGE = LARGEST + (64 << 10)
"""Bytes of a gRPC message."""
PIECE = 4 << 20
"""Bytes of a piece of what is put aside."""
DESCRIPTOR = "DEEPGEN_PLUGIN_FD"
"""The environment variable with the number of the descriptor on which a program that the kernel starts is spoken to."""


def common_version(ours: Iterable[int], theirs: Iterable[int]) -> int | None:
    """The highest version that both have."""
    return max(set(ours) & set(theirs), default=None)


def missing(required: Iterable[str], known: Iterable[str]) -> list[str]:
    """The required features that are not known."""
    return sorted(set(required) - set(known))
