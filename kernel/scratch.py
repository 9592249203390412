"""Models from scratch: a config file, and a tokenizer trained on the training columns and cached by content."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from .caches import CacheSettings
from .errors import SceneError, did_you_mean
from .hugging_face import library_versions, quiet_transformers
from .options import Range, options_of


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


def check(file: Path) -> None:
    """Refuses a scratch file that is wrong in itself, as far as that can be told without Transformers.

    Raises:
        SceneError: it cannot be read, names no architecture, or its `tokenizer` block is wrong.
    """
    written = _read(file)
    if not isinstance(written.get("model_type"), str):
        raise SceneError(f"{file}: needs a model_type, such as t5, bart or bert")
    if not isinstance(written.get("tokenizer"), str):
        _settings(file, written.get("tokenizer"))


def model_type(file: Path) -> str:
    """The architecture that a scratch file names."""
    return str(_read(file).get("model_type"))


def model_config(file: Path, tokenizer: Any, config_class: type | None = None) -> Any:
    """The Hugging Face config that a scratch file describes, with the ids of the tokenizer filled in.

    Args:
        config_class: a class of one's own, instead of that of the `model_type`.

    Raises:
        SceneError: an unknown architecture, key or value.
    """
    written = dict(_read(file))
    written.pop("tokenizer", None)
    kind = written.pop("model_type", None)
    mapping = quiet_transformers().CONFIG_MAPPING
    if config_class is None and kind not in mapping:
        raise SceneError(
            f"{file}: model_type = {kind!r} is no architecture of Transformers{did_you_mean(str(kind), mapping)}, and "
            "no plugin has registered it for the task"
        )
    make: Any = config_class or mapping[kind]
    try:
        plain = make()
    except TypeError as error:
        raise SceneError(f"{file}: {make.__name__}: {error}; give each of its arguments a default") from error
    for key in written:
        if not hasattr(plain, key):
            raise SceneError(f"{file}: {kind} has no setting '{key}'{did_you_mean(key, plain.to_dict())}")
    ids = {"vocab_size": len(tokenizer)}
    for token in ("pad", "bos", "eos"):
        ids[f"{token}_token_id"] = getattr(tokenizer, f"{token}_token_id")
    if plain.is_encoder_decoder:
        # BART starts the target with its end token, mBART with the last token of the target; T5 and Marian pad
        start = getattr(plain, "decoder_start_token_id", None)
        by_end = kind in ("mbart", "plbart") or (start is not None and start == plain.eos_token_id)
        ids["decoder_start_token_id"] = ids["eos_token_id" if by_end else "pad_token_id"]
        if getattr(plain, "forced_eos_token_id", None) is not None:
            ids["forced_eos_token_id"] = ids["eos_token_id"]
    try:
        return make(**{**ids, **written})
    except Exception as error:  # each architecture checks its values with errors of its own
        raise SceneError(f"{file}: {' '.join(str(error).split())}") from error


def limits(file: Path) -> str:
    """What of a scratch file, besides its tokenizer, may decide how much of a text is kept."""
    return repr(sorted((key, value) for key, value in _read(file).items() if "position" in key or key == "model_type"))


def tokenizer_folder(file: Path, texts: Callable[[], Iterable[str]] | None, cache: CacheSettings) -> str:
    """The folder of the tokenizer that a scratch file describes; trained on `texts` unless the cache has it.

    Raises:
        SceneError: no usable `tokenizer` block, or nothing to train it on.
    """
    written = _read(file).get("tokenizer")
    if isinstance(written, str):
        from .model_source import package_folder

        if written.startswith("package:"):
            return str(package_folder(written.removeprefix("package:")))
        folder = file.parent / written
        return str(folder) if folder.is_dir() else written
    settings = _settings(file, written)
    if texts is None:
        raise SceneError(
            f"{file}: its tokenizer is trained on the training columns, and this run has none; set train_dir"
        )
    import xxhash

    state = xxhash.xxh3_128(repr((settings, library_versions())).encode())
    for text in texts():
        state.update(text.encode())
        state.update(b"\n")
    cached = cache.made("tokenizers") / state.hexdigest()
    if not cached.is_dir():
        _publish(_train(settings, texts()), cached)
    return str(cached)


def _publish(tokenizer: Any, folder: Path) -> None:
    """Writes aside, then renames: of several ranks that train the same one, the first wins."""
    aside = tempfile.mkdtemp(dir=folder.parent)
    tokenizer.save_pretrained(aside)
    try:
        os.rename(aside, folder)
    except OSError:
        shutil.rmtree(aside)
        if not folder.is_dir():
            raise


def _train(settings: TokenizerSettings, texts: Iterable[str]) -> Any:
    """A Hugging Face tokenizer trained on texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    kind = _KINDS[settings.model]
    sentinels = [f"<extra_id_{number}>" for number in range(settings.extra_ids)]
    specials = [*dict.fromkeys(kind.specials.values()), *sentinels]
    unknown = kind.specials["unk_token"]
    common: dict[str, Any] = {"vocab_size": settings.vocab_size, "special_tokens": specials, "show_progress": False}
    frequency: dict[str, Any] = {"min_frequency": settings.min_frequency}
    backend: Any
    trainer: Any
    cleaning: list[Any] = [normalizers.Lowercase()] if settings.lowercase else []
    if settings.model == "word_level":
        backend = Tokenizer(models.WordLevel(unk_token=unknown))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(**common, **frequency)
    elif settings.model == "word_piece":
        backend = Tokenizer(models.WordPiece(unk_token=unknown))
        cleaning = [normalizers.BertNormalizer(lowercase=settings.lowercase)]
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**common, **frequency)
    elif settings.model == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**common, **frequency, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(**common, unk_token=unknown)
    if cleaning:
        backend.normalizer = normalizers.Sequence(cleaning)
    backend.train_from_iterator(texts, trainer)
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


def _settings(file: Path, written: Any) -> TokenizerSettings:
    if not isinstance(written, Mapping):
        raise SceneError(f"{file}: needs a tokenizer: a block such as {{model: bpe, vocab_size: 8000}}, or a folder")
    options = {option.name: option for option in options_of(TokenizerSettings, "tokenizer")}
    values = {}
    for name, value in written.items():
        if name not in options:
            raise SceneError(f"{file}: tokenizer has no setting '{name}'{did_you_mean(str(name), options)}")
        raw = value if value is None or isinstance(value, list) else str(value)
        try:
            values[name] = options[name].parse(raw)
        except ValueError as error:
            raise SceneError(f"{file}: tokenizer {name} = {value!r} {error}") from None
    settings = dataclasses.replace(TokenizerSettings(), **values)
    if settings.template is not None and len(settings.template) != 2:
        raise SceneError(f"{file}: tokenizer template takes two lines, for one text and for a pair")
    return settings


def _read(file: Path) -> dict[str, Any]:
    """The file as a mapping; YAML reads JSON too."""
    try:
        content = (
            json.loads(file.read_text("utf-8")) if file.suffix == ".json" else yaml.safe_load(file.read_text("utf-8"))
        )
    except (ValueError, yaml.YAMLError) as error:
        raise SceneError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SceneError(f"{file}: is no mapping of config settings")
    return content
