"""How many tokens a model can take, and so how long a text may be."""

from __future__ import annotations

from typing import Any

from .errors import SceneError

LONGEST = 1024
"""The most tokens of a text where neither the scene nor the model sets a limit."""
COUNTED_AFTER_PADDING = frozenset(
    "roberta xlm-roberta xlm-roberta-xl camembert roberta-prelayernorm xmod data2vec-text longformer mpnet".split()  # noqa: SIM905
)
"""Model types that count positions from the padding id on, and so take fewer tokens than they have positions."""


def of_config(config: Any) -> int | None:
    """The most tokens that a model of this config takes; None when it has no such limit."""
    if not hasattr(config, "max_position_embeddings") or config.max_position_embeddings is None:
        return None
    most = int(config.max_position_embeddings)
    if most <= 0:  # DeBERTa and XLNet write -1 for no limit
        return None
    if config.model_type in COUNTED_AFTER_PADDING:
        most -= int(config.pad_token_id) + 1
    return most


def longest_text(asked: int | None, positions: int | None, of_tokenizer: int, setting: str, source: str) -> int:
    """The most tokens of a text.

    Args:
        asked: by the scene; None means all that the model and its tokenizer take.
        positions: what the model takes.
        of_tokenizer: what the tokenizer says of itself.
        setting: the setting that asked, and
        source: the model, for the message.

    Raises:
        SceneError: the model cannot take so many.
    """
    if asked is None:
        return min(n for n in (LONGEST, positions, of_tokenizer) if n)
    if positions is not None and asked > positions:
        raise SceneError(f"{setting} = {asked} is more than {source} takes: at most {positions} tokens")
    return asked
