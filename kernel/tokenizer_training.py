"""Trains the tokenizer of a scratch file: the same texts give the same one in every process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from .hugging_face import quiet_transformers
from .options import Range

VERSION = 2
"""Part of the key of a kept tokenizer. Count it up when the same texts and settings come to give another one."""


@dataclass(frozen=True)
class TokenizerSettings:
    """The `tokenizer:` block of a scratch file."""

    model: Literal["word_level", "word_piece", "bpe", "unigram"] = "bpe"
    """word_level: whole words; word_piece: as BERT; bpe: on bytes, as RoBERTa and BART; unigram: as T5."""
    vocab_size: Annotated[int, Range(1)] = 30000
    """The most tokens, special tokens included."""
    min_frequency: Annotated[int, Range(1)] = 1
    """How often a token has to be in the training columns."""
    lowercase: bool = False
    """Lower all letters first."""
    template: tuple[str, ...] | None = None
    """Order of texts and special tokens, for one text and for a pair, such as `$A </s>`, `$A </s> $B </s>`."""
    max_length: Annotated[int | None, Range(1)] = None
    """The most tokens of a text; by default what the model takes."""
    extra_ids: Annotated[int, Range(0)] = 0
    """Sentinels to add, `<extra_id_0>`, `<extra_id_1>` and so on, as T5 has 100 of them."""


@dataclass(frozen=True)
class _Kind:
    """What belongs to a kind of tokenizer by default."""

    specials: Mapping[str, str]
    template: tuple[str, str]
    type_ids: bool = False


_T5 = _Kind(
    {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    ("$A </s>", "$A </s> $B </s>"),
)
_KINDS = {
    "word_level": _T5,
    "unigram": _T5,
    "bpe": _Kind(
        {
            "pad_token": "<pad>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "cls_token": "<s>",
            "sep_token": "</s>",
            "mask_token": "<mask>",
        },
        ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
    ),
    "word_piece": _Kind(
        {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
        type_ids=True,
    ),
}

_ALL = 2**62
"""A vocabulary that no text fills."""


def train(settings: TokenizerSettings, texts: Callable[[], Iterable[str]]) -> Any:
    """A Hugging Face tokenizer trained on texts.

    Args:
        texts: gives the same texts in the same order at each call; `word_piece` reads them twice.
    """
    from tokenizers import pre_tokenizers, processors, trainers

    kind = _KINDS[settings.model]
    sentinels = [f"<extra_id_{number}>" for number in range(settings.extra_ids)]
    specials = [*dict.fromkeys(kind.specials.values()), *sentinels]
    unknown = kind.specials["unk_token"]
    common: dict[str, Any] = {"vocab_size": settings.vocab_size, "special_tokens": specials, "show_progress": False}
    frequency: dict[str, Any] = {"min_frequency": settings.min_frequency}
    backend = _untrained(settings, unknown)
    if settings.model == "word_level":
        backend.train_from_iterator(texts(), trainers.WordLevelTrainer(**common, **frequency))
    elif settings.model == "word_piece":
        backend.model = _word_piece(backend, texts, common | frequency, unknown)
        backend.add_special_tokens(specials)
    elif settings.model == "bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(texts(), trainers.BpeTrainer(**common, **frequency, initial_alphabet=alphabet))
    else:
        backend.train_from_iterator(texts(), trainers.UnigramTrainer(**common, unk_token=unknown))
        backend.model = _in_order(backend, len(specials))
    single, pair = settings.template if settings.template else kind.template
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, backend.token_to_id(token)) for token in specials]
    )
    names = ["input_ids", *(["token_type_ids"] if kind.type_ids else []), "attention_mask"]
    return quiet_transformers().PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=names,
        clean_up_tokenization_spaces=False,
        **({"model_max_length": settings.max_length} if settings.max_length else {}),
        **({"extra_special_tokens": sentinels} if sentinels else {}),
        **kind.specials,
    )


def _untrained(settings: TokenizerSettings, unknown: str) -> Any:
    """How a text is cleaned, divided and put together again, and an empty model."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    backend: Any
    cleaning: list[Any] = [normalizers.Lowercase()] if settings.lowercase else []
    if settings.model == "word_level":
        backend = Tokenizer(models.WordLevel(unk_token=unknown))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif settings.model == "word_piece":
        backend = Tokenizer(models.WordPiece(unk_token=unknown))
        cleaning = [normalizers.BertNormalizer(lowercase=settings.lowercase)]
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
    elif settings.model == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
    if cleaning:
        backend.normalizer = normalizers.Sequence(cleaning)
    return backend


def _word_piece(backend: Any, texts: Callable[[], Iterable[str]], options: Mapping[str, Any], unknown: str) -> Any:
    """A WordPiece model whose ids do not depend on the order of a hash map.

    WordPieceTrainer meets words in the order of a hash map, which is another one in each process, and numbers the
    letters inside words (`##x`) as it meets them; of two merges with one count, the one of the smaller ids comes first.
    Here letters have their numbers before that: they are special tokens, for the training alone.
    """
    from tokenizers import Tokenizer, models, trainers

    def trained(model: Any, trainer: Any) -> dict[str, int]:
        learner: Any = Tokenizer(model)
        learner.normalizer, learner.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
        learner.train_from_iterator(texts(), trainer)
        return learner.get_vocab()  # type: ignore[no-any-return]

    every = trainers.WordLevelTrainer(vocab_size=_ALL, min_frequency=0, special_tokens=[], show_progress=False)
    words = trained(models.WordLevel(), every)
    letters = sorted({letter for word in words for letter in word})
    inner = sorted({f"##{letter}" for word in words for letter in word[1:]})
    numbered = [*options["special_tokens"], *letters, *inner]
    trainer = trainers.WordPieceTrainer(**{**options, "special_tokens": numbered})
    return models.WordPiece(trained(models.WordPiece(unk_token=unknown), trainer), unk_token=unknown)


def _in_order(backend: Any, specials: int) -> Any:
    """The trained Unigram model, its pieces sorted and its scores without what is left to chance.

    UnigramTrainer adds up the probabilities in the order of a hash map, so that they differ by rounding (4e-11 at most
    in what was tried, far below the five digits that are kept), gives pieces of one score their ids in that order, and
    gives the characters that no piece of the model stands for the least score, 0.0001 more for each, in that order.

    Args:
        specials: how many pieces at the front are special tokens, and stay as they are.
    """
    from tokenizers import models

    model = json.loads(backend.to_str())["model"]
    front, pieces = model["vocab"][:specials], model["vocab"][specials:]
    least = min((score for _, score in pieces), default=0.0)
    scores = {piece: round(score, 5) for piece, score in pieces}
    steps = {piece: (score - least) * 1e4 for piece, score in pieces if len(piece) == 1}
    drawn = sorted(piece for piece, step in steps.items() if abs(step - round(step)) < 1e-5)
    scores.update(zip(drawn, sorted(scores[piece] for piece in drawn), strict=True))
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return models.Unigram([*map(tuple, front), *ordered], model["unk_id"], False)
